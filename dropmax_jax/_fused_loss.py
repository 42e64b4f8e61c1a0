r"""DropMax's loss with its gradient, computed together and, on CPU, in blocks that fit its caches.

`dropmax_loss` calls this; `dropmax_loss_terms` gives the terms one by one.

Differentiated term by term, the loss reads and writes some twenty arrays of the size of the logits.
What is here takes the derivatives by hand, in one pass, and keeps for the backward pass nothing but
the gradient itself, one array for each head. With a, b, c the logits of q, ρ and r, the three terms
that do not see the mask add up, for a class other than the target, to

.. math::
    q (a - b) + \rho b - \log(1 + e^a) + \log(1 + e^c);

for the target :math:`-\log r - (1 - \rho) b` is left, the same with :math:`a = \infty`, -c for c.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from dropmax_jax import _checks, _noise
from dropmax_jax.concrete import sigmoids

# Elements of a block: its temporaries stay in a cache, and starting its kernels costs little.
BLOCK = 2**15
# A logit whose sigmoid is 1 to the last digit, and whose products are finite.
CERTAIN = 1e6


@functools.partial(jax.jit, static_argnames="epsilon")
def fused_loss(
    key: jax.Array,
    logits: jax.Array,
    prior: jax.Array,
    label: jax.Array,
    labels: jax.Array,
    temperature: jax.Array,
    *,
    epsilon: float,
) -> jax.Array:
    """The loss `[...]` of heads `[..., K]` of one dtype, all checked."""
    return _loss(epsilon, key, temperature, labels, logits, prior, label)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _loss(epsilon: float, *args: jax.Array) -> jax.Array:
    return _loss_and_gradient(epsilon, *args)[0]


def _loss_jvp(
    epsilon: float, primals: tuple[jax.Array, ...], tangents: tuple[Any, ...]
) -> tuple[jax.Array, jax.Array]:
    loss, gradient = _loss_and_gradient(epsilon, *primals)
    _, temperature_tangent, _, *head_tangents = tangents
    tangent = jnp.zeros_like(loss)
    if not isinstance(temperature_tangent, SymbolicZero):
        tangent += gradient[0] * temperature_tangent
    for slope, head_tangent in zip(gradient[1:], head_tangents, strict=True):
        if not isinstance(head_tangent, SymbolicZero):
            tangent += jnp.sum(slope * head_tangent, axis=-1)
    return loss, tangent


_loss.defjvp(_loss_jvp, symbolic_zeros=True)


def _loss_and_gradient(
    epsilon: float, key: jax.Array, temperature: jax.Array, labels: jax.Array, *heads: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """The loss `[...]` and its derivatives in temperature, `[...]`, and heads, `[..., K]`."""
    shape, dtype = heads[0].shape, heads[0].dtype
    rows = functools.partial(_rows, epsilon)

    def at_once(key: jax.Array, temperature: jax.Array, *rest: jax.Array) -> Any:
        return rows(temperature, _noise.logistic(key, shape, dtype), *rest)

    def in_blocks(key: jax.Array, temperature: jax.Array, *rest: jax.Array) -> Any:
        flat = [array.reshape(-1, *array.shape[labels.ndim :]) for array in rest]
        sources, noise = _noise.logistic_by_row(key, flat[-1].shape, dtype)
        results = lax.map(
            lambda row: rows(temperature, noise(row[0]), *row[1:]),
            (sources, *flat),
            batch_size=max(1, BLOCK // shape[-1]),
        )
        return jax.tree.map(lambda array: array.reshape(*labels.shape, *array.shape[1:]), results)

    args = (key, temperature, labels, *heads)
    # Rows known to lie on several devices can't be taken in turn, nor can a number of rows that is
    # a symbol, in a program exported for any batch.
    is_spread = any(any(jax.typeof(array).sharding.spec) for array in (labels, *heads))
    is_symbolic = not all(isinstance(size, int) for size in shape)
    if is_spread or is_symbolic:
        return at_once(*args)
    return lax.platform_dependent(*args, cpu=in_blocks, default=at_once)


def _rows(
    epsilon: float,
    temperature: jax.Array,
    noise: jax.Array,
    labels: jax.Array,
    logits: jax.Array,
    prior: jax.Array,
    label: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """`_loss_and_gradient` for noise that is given, of any number of rows, `[..., K]`."""
    # Second derivatives are those of these lines. So a comparison that chooses a branch counts 0 as
    # positive, as the derivative of jnp.abs does, and only a's own share of the prior is constant.
    is_target = _checks.target_mask(labels, logits.shape, "logits")
    constant_prior = lax.stop_gradient(prior)
    a = jnp.where(is_target, CERTAIN, constant_prior + label)
    a_minus_b = label - (prior - constant_prior)
    q, not_q = sigmoids(a)
    rho, not_rho = sigmoids(prior)
    side = jnp.where(is_target, -label, label)
    wrong, _ = sigmoids(side)  # r, or 1 - r where r should be 1

    # The cross-entropy's weights: z + ε = exp(scale) (mask + rest), where the larger of mask and
    # rest is between 1/2 and 1, so that none is lost however small z and ε are.
    x = jnp.where(is_target, CERTAIN, (a + noise) / temperature)
    larger, smaller = sigmoids(jnp.abs(x))
    not_mask = jnp.where(x >= 0.0, smaller, larger)
    scale = jnp.minimum(x, 0.0)
    mask, rest = larger, jnp.zeros_like(x)
    if epsilon > 0.0:
        gap = scale - _checks.log_epsilon(epsilon)
        ratio = jnp.exp(-jnp.abs(gap))
        mask = jnp.where(gap >= 0.0, larger, ratio * larger)
        rest = jnp.where(gap >= 0.0, ratio, 1.0)
        scale = jnp.maximum(scale, _checks.log_epsilon(epsilon))
    scaled = logits + scale
    largest = lax.stop_gradient(jnp.max(scaled, axis=-1, keepdims=True))
    weight = jnp.exp(scaled - largest)
    total = jnp.sum(weight * (mask + rest), axis=-1, keepdims=True)

    # The sum of the terms, in the form for its sign of a in which large numbers do not cancel.
    small_a, small_side = jnp.exp(-jnp.abs(a)), jnp.exp(-jnp.abs(side))
    others = (
        jnp.where(a >= 0.0, -not_q * a_minus_b - not_rho * prior, q * a_minus_b + rho * prior)
        + jnp.where(side >= 0.0, side, 0.0)
        + jnp.log1p((small_side - small_a) / (1.0 + small_a))
        - jnp.where(is_target, logits, 0.0)
    )
    loss = (largest + jnp.log(total))[..., 0] + jnp.sum(others, axis=-1) - math.log1p(epsilon)

    slope = weight * mask * not_mask / total  # of the cross-entropy, in x
    return loss, (
        -jnp.sum(slope * x, axis=-1) / temperature,
        weight * (mask + rest) / total - is_target.astype(weight.dtype),
        rho - q + prior * rho * not_rho,
        slope / temperature + q * not_q * a_minus_b + jnp.where(is_target, -wrong, wrong),
    )
