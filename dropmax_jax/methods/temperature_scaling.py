r"""Temperature scaling: a softmax, made calibrated by one number fitted on validation data.

References:
    Guo et al., `On Calibration of Modern Neural Networks <https://arxiv.org/abs/1706.04599>`_,
    ICML 2017.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks, _where
from dropmax_jax.heads import Heads, head_arrays
from dropmax_jax.methods import softmax

_LARGEST = 1e3
# Each halves an interval of log T that is 14 wide at first; more would not move a float32.
_NUM_HALVINGS = 32


def fit_temperature(
    heads: Heads, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    r"""The temperature under which labels are most probable.

    .. math::
        T = \operatorname{argmin}_{T} -\sum_i \log\operatorname{softmax}(o_i / T)_{t_i}

    The sum is convex in 1/T, so T is where its derivative in 1/T,
    :math:`\sum_i \mathbb{E}_{k \sim \operatorname{softmax}(o_i/T)}[o_{ik}] - o_{it_i}`, changes
    its sign. Bisection finds it between 1/1000 and 1000, and cannot diverge. If several
    temperatures are equally good to the last digit, the result is the highest, the least
    confident. This happens where all predictions are right: the sum then falls to 0 with T.

    Args:
        heads: With `logits`, `[..., K]`, of validation data.
        labels: Integers `[...]`, at least one.
        where: Which examples count, or which classes exist.

    Returns:
        T, a scalar. No gradient flows through it.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.temperature_scaling import fit_temperature
        >>> logits = jax.random.normal(jax.random.key(0), (10_000, 5))
        >>> labels = jax.random.categorical(jax.random.key(1), logits)
        >>> temperature = fit_temperature(Heads(3 * logits), labels)  # thrice too confident
        >>> bool(abs(temperature - 3) < 0.2)
        True

    References:
        Guo et al. 2017, section 4.2 (temperature scaling).
    """
    counts, (logits,) = _where.head_arrays_of(where, heads, "logits")
    labels = counts.labels(labels)
    is_target = _checks.target_mask(labels, logits, "heads.logits")
    if logits.size == 0:
        raise ValueError(f"heads.logits must have an example, but has shape {logits.shape}")
    logits = jax.lax.stop_gradient(logits)
    # How far each class lies above the label. Sums of this lose no digits to large logits.
    margins = logits - jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1, keepdims=True)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) / 2
        probs = jax.nn.softmax(margins * jnp.exp(-middle))
        # A logit of minus infinity excludes its class.
        weighed = jnp.where(probs > 0.0, probs * margins, 0.0)
        is_too_confident = jnp.mean(counts.per_example(jnp.sum(weighed, axis=-1))) >= 0.0
        return jnp.where(is_too_confident, middle, low), jnp.where(is_too_confident, high, middle)

    limit = jnp.asarray(math.log(_LARGEST), logits.dtype)
    # Under shard_map, logits vary across devices, and so must the bounds from the start.
    limit = jnp.where(jnp.any(margins > 0.0), limit, limit)
    low, high = jax.lax.fori_loop(0, _NUM_HALVINGS, halve, (-limit, limit))
    return jnp.exp((low + high) / 2)


def scaled_log_probs(heads: Heads, fitted: ArrayLike = 1.0) -> jax.Array:
    r"""Log-softmax `[..., K]` of :math:`o / T`.

    Args:
        heads: With `logits`.
        fitted: T, a positive scalar, as `fit_temperature` returns it. A number is checked; a JAX
            array isn't.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.temperature_scaling import scaled_log_probs
        >>> heads = Heads(jnp.array([0.0, 2 * jnp.log(3.0)]))
        >>> print(jnp.exp(scaled_log_probs(heads, 2.0)))  # and 0.1 and 0.9 with T = 1
        [0.25 0.75]
    """
    (logits,) = head_arrays(heads, "logits")
    return jax.nn.log_softmax(logits / _checks.positive("fitted", fitted, logits.dtype))


METHOD = dataclasses.replace(softmax.METHOD, predict=scaled_log_probs, fit=fit_temperature)
