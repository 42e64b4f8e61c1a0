"""Log-probabilities of some classes under the mean mask, of arguments that are checked."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

from dropmax_jax.linear import _blocks, _reductions
from dropmax_jax.linear._division import Known, Layers, Plan
from dropmax_jax.linear._reductions import Setting, mean_masked
from dropmax_jax.linear._terms import Plans, over_shares, ways_of


@functools.partial(jax.jit, static_argnames=("plans", "setting"))
def chosen(
    layers: Layers, known: Known, numbers: Array, *, plans: Plans, setting: Setting
) -> Array:
    """Log-probabilities of the classes of these numbers, `[N, C]`."""
    total = _log_total(layers, known, plans, setting)
    numbers = numbers - known.columns[None]
    num_classes = layers.kernels[0].shape[1]
    is_here = (numbers >= 0) & (numbers < num_classes)
    numbers = jnp.clip(numbers, 0, num_classes - 1)
    heads = []
    for i, (source, kernel) in enumerate(zip(plans[0].sources, layers.kernels, strict=True)):
        dtype = plans[0].dtype
        read, columns = layers.features[source], kernel[:, numbers]
        head = jnp.einsum("nd,dnc->nc", read.astype(dtype), columns.astype(dtype))
        if layers.biases is not None:
            head += layers.biases[i][numbers].astype(head.dtype)
        heads.append(head)
    masked = mean_masked(tuple(heads), setting.epsilon)
    if known.exists is not None:
        rows = jnp.arange(numbers.shape[0])[:, None] if known.exists.shape[0] > 1 else 0
        masked = jnp.where(known.exists[rows, numbers], masked, -jnp.inf)
    axis_name = setting.classes.axis_name
    if axis_name is not None:
        masked = lax.psum(jnp.where(is_here, masked, 0.0), axis_name)
    return masked - total[:, None]


@functools.partial(jax.jit, static_argnums=0, static_argnames=("plans", "setting"))
def top_k(
    k: int, layers: Layers, known: Known, *, plans: Plans, setting: Setting
) -> tuple[Array, Array]:
    """The largest log-probabilities and the numbers of their classes, `[N, k]` each."""
    total = _log_total(layers, known, plans, setting)
    layers, known = _blocks.vary_together((layers, known))
    on_cpu, elsewhere = (functools.partial(_top_k, k, setting.epsilon, plan) for plan in plans)
    best: tuple[Array, Array] = lax.platform_dependent(layers, known, cpu=on_cpu, default=elsewhere)
    axis_name = setting.classes.axis_name
    if axis_name is not None:
        # A sum, since what is gathered would count as different on each device.
        share = jnp.arange(setting.classes.num_shares())[:, None, None] == setting.classes.share()
        values, numbers = (lax.psum(jnp.where(share, each[None], 0), axis_name) for each in best)
        best = _best(k, list(values), list(numbers))
    return best[0] - total[:, None], best[1]


def _log_total(layers: Layers, known: Known, plans: Plans, setting: Setting) -> Array:
    """The log `[N]` of the sum over all classes."""
    layers, known = _blocks.vary_together((layers, known))
    ways = ways_of(_reductions.mean_mask, plans, setting)
    found = _blocks.reduce_classes(ways, layers, known, None, None)
    return over_shares(setting.classes, found)[0]


def _top_k(k: int, epsilon: float, plan: Plan, layers: Layers, known: Known) -> tuple[Array, Array]:
    def add(
        best: tuple[Array, Array], heads: tuple[Array, ...], part: Known, _: None
    ) -> tuple[Array, Array]:
        masked = mean_masked(heads, epsilon)
        if part.exists is not None:
            masked = jnp.where(part.exists, masked, -jnp.inf)
        values, places = lax.top_k(masked, min(k, masked.shape[1]))
        return _best(k, (best[0], values), (best[1], part.columns[places]))

    none = _blocks.zeros(plan, known, (known.labels.size, k))
    start = none - jnp.inf, none.astype(jnp.int32)
    best: tuple[Array, Array] = _blocks.fold_classes(add, start, plan, layers, known, None)
    return best


def _best(k: int, values: Sequence[Array], numbers: Sequence[Array]) -> tuple[Array, Array]:
    """The k largest of all values, and their numbers."""
    largest, places = lax.top_k(jnp.concatenate(values, axis=1), k)
    return largest, jnp.take_along_axis(jnp.concatenate(numbers, axis=1), places, axis=1)
