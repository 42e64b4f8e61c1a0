r"""DropMax's loss, its terms and its gradient in one pass; large ones, on CPU, in blocks.

`dropmax_loss_and_terms` calls this. `dropmax_loss_terms` has the same terms one by one, for a mask
that is given, and the tests compare the two.

Differentiated term by term, the loss reads and writes some twenty arrays of the size of the logits.
The derivatives here are taken by hand, and the backward pass keeps one array for each head. The
arrays of a block fit the CPU's caches.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from dropmax_jax import _checks, _noise, _sharding
from dropmax_jax._classes import Classes
from dropmax_jax._fused import blocks
from dropmax_jax._fused.rows import Result, loss_and_gradient
from dropmax_jax._loss_terms import loss_terms
from dropmax_jax.concrete import log_sigmoid

# Elements that are not worth a loop.
SMALL = 2**11

# The loss `[...]`, and its terms `[...]` in the order of `LossTerms`.
_LossAndTerms = tuple[Array, tuple[Array, ...]]


@functools.partial(jax.jit, static_argnames=("epsilon", "classes"))
def fused_loss(
    key: Array,
    heads: tuple[Array, Array, Array],
    labels: Array,
    temperature: Array,
    weights: Array,
    count: Array | None = None,
    *,
    epsilon: float,
    classes: Classes,
) -> _LossAndTerms:
    """The loss and its terms, of heads `[..., K]` and weights `[4]` of one dtype, all checked.

    `count` is how many classes each example has, `[...]` of that dtype; None for all.
    """
    rest = heads if count is None else (*heads, count)
    return _loss(epsilon, classes, key, labels, temperature, weights, *rest)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _loss(epsilon: float, classes: Classes, *args: Array) -> _LossAndTerms:
    result = _with_gradient(epsilon, classes, *args)
    return result.loss, result.terms


def _loss_jvp(
    epsilon: float, classes: Classes, primals: tuple[Array, ...], tangents: tuple[Any, ...]
) -> tuple[_LossAndTerms, _LossAndTerms]:
    key, labels, temperature, weights, *rest = primals
    _, of_labels, of_temperature, of_weights, *of_rest = tangents
    heads, of_heads = rest[:3], of_rest[:3]
    count = rest[3] if len(rest) > 3 else None
    result = _with_gradient(epsilon, classes, *primals)
    tangent = jnp.zeros_like(result.loss)
    if not isinstance(of_temperature, SymbolicZero):
        tangent += result.of_temperature * of_temperature
    for slope, of_head in zip(result.of_heads, of_heads, strict=True):
        if not isinstance(of_head, SymbolicZero):
            tangent += classes.sum(slope * of_head)
    if not isinstance(of_weights, SymbolicZero):
        tangent += sum(term * of_weights[i] for i, term in enumerate(result.terms))

    def terms(labels: Array, temperature: Array, *heads: Array) -> tuple[Array, ...]:
        logits, prior, label = heads
        posterior = lax.stop_gradient(prior) + label
        noise = _noise_of(classes, key, posterior)
        log_mask = log_sigmoid((posterior + noise) / temperature)
        target = classes.target(labels, logits)
        return loss_terms(
            classes, target, log_mask, logits, prior, label, _checks.log_epsilon(epsilon), count
        )

    if not isinstance(of_labels, SymbolicZero):
        _, changes = jax.jvp(
            lambda labels: terms(labels, temperature, *heads), (labels,), (of_labels,)
        )
        tangent += sum(weights[i] * change for i, change in enumerate(changes))
    # XLA leaves the rest out where nobody differentiates the terms.
    points, directions = (labels, temperature, *heads), (of_labels, of_temperature, *of_heads)
    of_what: Any = terms
    if not jnp.issubdtype(labels.dtype, jnp.floating):
        of_what = functools.partial(terms, labels)
        points, directions = points[1:], directions[1:]
    directions = tuple(
        jnp.zeros_like(point) if isinstance(direction, SymbolicZero) else direction
        for point, direction in zip(points, directions, strict=True)
    )
    _, of_terms = jax.jvp(of_what, points, directions)
    return (result.loss, result.terms), (tangent, of_terms)


_loss.defjvp(_loss_jvp, symbolic_zeros=True)


def _with_gradient(
    epsilon: float,
    classes: Classes,
    key: Array,
    labels: Array,
    temperature: Array,
    weights: Array,
    *rest: Array,
) -> Result:
    shape = rest[0].shape
    rows_of = functools.partial(loss_and_gradient, epsilon)

    def at_once(key: Array, temperature: Array, weights: Array, *rest: Array) -> Result:
        noise = _noise_of(classes, key, rest[1])
        return rows_of(classes, temperature, weights, noise, *rest)

    args = (key, temperature, weights, labels, *rest)
    # In a program exported for any batch, the number of rows is a symbol, which cannot be divided.
    is_symbolic = not all(isinstance(size, int) for size in shape)
    is_spread = classes.axis_name is not None or _sharding.explicit(rest[0]) is not None
    if is_symbolic or is_spread or _is_small(shape):
        return at_once(*args)
    on_cpu = functools.partial(rows_of, classes._replace(by_product=True))
    in_blocks = functools.partial(blocks.in_blocks, on_cpu, shape)
    result: Result = lax.platform_dependent(*args, cpu=in_blocks, default=at_once)
    return result


def _noise_of(classes: Classes, key: Array, head: Array) -> Array:
    """Noise of the shape of a head, drawn where the head is."""
    sharding = _sharding.explicit(head)
    if sharding is not None or not (_is_small(head.shape) or classes.axis_name):
        return _noise.logistic(key, head.shape, head.dtype, sharding)
    rows = (math.prod(head.shape[:-1]), head.shape[-1])
    share = (classes.share(), classes.num_shares())
    sources, noise = _noise.logistic_by_row(key, rows, head.dtype, *share)
    return noise(sources).reshape(head.shape)


def _is_small(shape: tuple[int, ...]) -> bool:
    return all(isinstance(size, int) for size in shape) and math.prod(shape) <= SMALL
