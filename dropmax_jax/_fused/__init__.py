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

from dropmax_jax import _checks, _noise
from dropmax_jax._fused import blocks
from dropmax_jax._fused.rows import Result, loss_and_gradient, sum_on_cpu
from dropmax_jax._loss_terms import loss_terms
from dropmax_jax.concrete import log_sigmoid

# Elements that are not worth a loop.
SMALL = 2**11

# The loss `[...]`, and its terms `[...]` in the order of `LossTerms`.
_LossAndTerms = tuple[Array, tuple[Array, ...]]


@functools.partial(jax.jit, static_argnames="epsilon")
def fused_loss(
    key: Array,
    heads: tuple[Array, Array, Array],
    labels: Array,
    temperature: Array,
    weights: Array,
    *,
    epsilon: float,
) -> _LossAndTerms:
    """The loss and its terms, of heads `[..., K]` and weights `[4]` of one dtype, all checked."""
    return _loss(epsilon, key, labels, temperature, weights, *heads)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _loss(epsilon: float, *args: Array) -> _LossAndTerms:
    result = _with_gradient(epsilon, *args)
    return result.loss, result.terms


def _loss_jvp(
    epsilon: float, primals: tuple[Array, ...], tangents: tuple[Any, ...]
) -> tuple[_LossAndTerms, _LossAndTerms]:
    key, labels, temperature, weights, *heads = primals
    _, of_labels, of_temperature, of_weights, *of_heads = tangents
    result = _with_gradient(epsilon, *primals)
    tangent = jnp.zeros_like(result.loss)
    if not isinstance(of_temperature, SymbolicZero):
        tangent += result.of_temperature * of_temperature
    for slope, of_head in zip(result.of_heads, of_heads, strict=True):
        if not isinstance(of_head, SymbolicZero):
            tangent += jnp.sum(slope * of_head, axis=-1)
    if not isinstance(of_weights, SymbolicZero):
        tangent += sum(term * of_weights[i] for i, term in enumerate(result.terms))

    def terms(labels: Array, temperature: Array, *heads: Array) -> tuple[Array, ...]:
        logits, prior, label = heads
        posterior = lax.stop_gradient(prior) + label
        sharding = _checks.explicit_sharding(posterior)
        noise = _noise.logistic(key, posterior.shape, posterior.dtype, sharding)
        log_mask = log_sigmoid((posterior + noise) / temperature)
        target = _checks.target(labels, logits, "logits")
        return loss_terms(target, log_mask, logits, prior, label, _checks.log_epsilon(epsilon))

    if not isinstance(of_labels, SymbolicZero):
        _, changes = jax.jvp(
            lambda labels: terms(labels, temperature, *heads), (labels,), (of_labels,)
        )
        tangent += sum(weights[i] * change for i, change in enumerate(changes))
    # XLA leaves the rest out where nobody differentiates the terms.
    differentiable = [(temperature, of_temperature), *zip(heads, of_heads, strict=True)]
    if jnp.issubdtype(labels.dtype, jnp.floating):
        differentiable.insert(0, (labels, of_labels))
        of_what = terms
    else:
        of_what = functools.partial(terms, labels)
    points, changes = zip(
        *(
            (point, jnp.zeros_like(point) if isinstance(change, SymbolicZero) else change)
            for point, change in differentiable
        ),
        strict=True,
    )
    _, of_terms = jax.jvp(of_what, points, changes)
    return (result.loss, result.terms), (tangent, of_terms)


_loss.defjvp(_loss_jvp, symbolic_zeros=True)


def _with_gradient(
    epsilon: float, key: Array, labels: Array, temperature: Array, weights: Array, *heads: Array
) -> Result:
    shape, dtype = heads[0].shape, heads[0].dtype
    rows_of = functools.partial(loss_and_gradient, epsilon)

    def at_once(key: Array, temperature: Array, weights: Array, *rest: Array) -> Result:
        noise = _noise.logistic(key, shape, dtype, sharding)
        return rows_of(_sum, temperature, weights, noise, *rest)

    def without_loop(key: Array, temperature: Array, weights: Array, *rest: Array) -> Result:
        sources, noise = _noise.logistic_by_row(key, (math.prod(shape[:-1]), shape[-1]), dtype)
        return rows_of(_sum, temperature, weights, noise(sources).reshape(shape), *rest)

    args = (key, temperature, weights, labels, *heads)
    sharding = _checks.explicit_sharding(heads[0])
    is_symbolic = not all(isinstance(size, int) for size in shape)
    # In a program exported for any batch, the number of rows is a symbol, which cannot be divided.
    if is_symbolic or sharding is not None:
        return at_once(*args)
    if math.prod(shape) <= SMALL:
        return without_loop(*args)
    in_blocks = functools.partial(blocks.in_blocks, functools.partial(rows_of, sum_on_cpu), shape)
    result: Result = lax.platform_dependent(*args, cpu=in_blocks, default=at_once)
    return result


def _sum(values: Array) -> Array:
    return jnp.sum(values, axis=-1)
