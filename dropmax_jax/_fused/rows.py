"""The loss of any rows with its derivatives, for noise that is given.

The code calls the logits of q, ρ and r a, b and c, and labels y.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from dropmax_jax import _checks
from dropmax_jax._classes import Classes
from dropmax_jax.concrete import sigmoids

# A logit whose sigmoid is 1 to the last digit, and whose products are finite.
_CERTAIN = 1e6
# From the lowest power of s up.
_LOG1P = (
    1.0,
    -0.49999502301216125,
    0.33319270610809326,
    -0.24844369292259216,
    0.19111430644989014,
    -0.13674770295619965,
    0.07836166769266129,
    -0.02958850748836994,
    0.005253457929939032,
)


class Result(NamedTuple):
    """The loss and its terms, `[...]` each, and the loss's derivatives."""

    loss: Array
    terms: tuple[Array, ...]
    of_temperature: Array
    of_heads: tuple[Array, ...]


def loss_and_gradient(
    epsilon: float,
    classes: Classes,
    temperature: Array,
    weights: Array,
    noise: Array,
    labels: Array,
    logits: Array,
    b: Array,
    c: Array,
    count: Array | None = None,
) -> Result:
    """The loss for heads and noise `[..., K]`, and labels: integers `[...]` or probabilities.

    `count` is how many classes each example has, `[...]`; None for all.
    """
    # JAX differentiates these lines for second derivatives. So comparisons count 0 as positive, as
    # the derivative of jnp.abs does, and only the b within a is constant.
    target = classes.target(labels, logits)
    is_hard = target.dtype == jnp.bool_
    y, not_y = target.astype(b.dtype), 1.0 - target.astype(b.dtype)
    of_target, of_other = classes.regression_weights(b.shape[-1], count)
    logits = _checks.bounded_below(logits)
    constant_b = lax.stop_gradient(b)
    a, a_minus_b = constant_b + c, c - (b - constant_b)
    (q, not_q), (rho, not_rho), (r, not_r) = sigmoids(a), sigmoids(b), sigmoids(c)
    x = (a + noise) / temperature
    if is_hard:
        x = jnp.where(target, _CERTAIN, x)

    # z + ε = exp(scale) (mask + rest), where the larger of mask and rest is between 1/2 and 1, so
    # that none is lost however small z and ε are.
    larger, smaller = sigmoids(jnp.abs(x))
    z, not_z = (
        jnp.where(x >= 0.0, larger, smaller),
        jnp.where(x >= 0.0, smaller, larger),
    )
    scale = jnp.minimum(x, 0.0)
    mask, rest = larger, jnp.zeros_like(x)
    if epsilon > 0.0:
        gap = scale - _checks.log_epsilon(epsilon)
        ratio = jnp.exp(-jnp.abs(gap))
        mask = jnp.where(gap >= 0.0, larger, ratio * larger)
        rest = jnp.where(gap >= 0.0, ratio, 1.0)
        scale = jnp.maximum(scale, _checks.log_epsilon(epsilon))
    scaled = logits + scale
    largest = classes.max(scaled)
    weight = jnp.exp(scaled - largest)
    total = classes.sum(weight * (mask + rest))[..., None]
    log_total = largest + jnp.log(total)
    if is_hard:
        cross_entropy = log_total[..., 0] - classes.sum(jnp.where(target, logits, 0.0))
        cross_entropy -= math.log1p(epsilon)
        of_logits = weight * (mask + rest) / total - y
        of_x = weight * mask * not_z / total
    else:
        # Were k the label, z_k would be 1: the sum over classes would grow by o_k's share 1 - z_k.
        above = logits - _softplus(x) - log_total
        grows, stays = sigmoids(above)
        cross_entropy = classes.sum(y * (log_total - logits + _softplus(above)))
        cross_entropy -= math.log1p(epsilon) * classes.sum(y)
        mean_stays = classes.sum(y * stays)[..., None]
        of_logits = weight * (mask + rest) / total * mean_stays - y * stays
        of_x = not_z * (weight * mask / total) * mean_stays - z * y * grows

    # Large numbers meet only where a probability weighs them down; see `concrete._kl`.
    log_a, log_b, log_c = _log1p_exp_abs(a), _log1p_exp_abs(b), _log1p_exp_abs(c)
    b_above, b_below = _parts(b)
    c_above, c_below = _parts(c)
    kl = log_b - log_a + jnp.where(a >= 0.0, b_below - not_q * a_minus_b, b_above + q * a_minus_b)
    if is_hard:
        kl = jnp.where(target, log_b + b_below, kl)
        regression = log_c + jnp.where(target, c_below, c_above)
        if classes.balanced:
            regression *= jnp.where(target, of_target, of_other)
    else:
        kl = y * (log_b + b_below) + not_y * kl
        regression = log_c + y * c_below + not_y * c_above
        if classes.balanced:
            regression = of_target * y * (log_c + c_below) + of_other * not_y * (log_c + c_above)
    terms = (
        cross_entropy,
        classes.sum(kl),
        classes.sum(regression),
        classes.sum(-log_b - jnp.where(b >= 0.0, b * not_rho, -b * rho)),
    )
    loss = jnp.asarray(sum(weights[i] * term for i, term in enumerate(terms)))
    return Result(
        loss,
        terms,
        -weights[0] * classes.sum(of_x * x) / temperature,
        (
            weights[0] * of_logits,
            weights[1] * (not_y * (rho - q) - y * not_rho) + weights[3] * (b * rho * not_rho),
            weights[0] * of_x / temperature
            + weights[1] * (not_y * q * not_q * a_minus_b)
            + weights[2] * (of_other * not_y * r - of_target * y * not_r),
        ),
    )


def _parts(values: Array) -> tuple[Array, Array]:
    """The positive parts of values, and of their negatives."""
    is_above = values >= 0.0
    return jnp.where(is_above, values, 0.0), jnp.where(is_above, 0.0, -values)


def _softplus(logits: Array) -> Array:
    return _log1p_exp_abs(logits) + _parts(logits)[0]


def _log1p_exp_abs(logits: Array) -> Array:
    """log(1 + exp(-|logits|)), with a relative error of 2e-7 in float32.

    XLA's log1p takes three times as long as this polynomial, fitted to log1p(s) / s at the
    Chebyshev nodes of [0, 1].
    """
    small = jnp.exp(-jnp.abs(logits))
    if small.dtype != jnp.float32:
        return jnp.log1p(small)
    result = jnp.full_like(small, _LOG1P[-1])
    for coefficient in _LOG1P[-2::-1]:
        result = result * small + coefficient
    # Or XLA would compute it again for each of the sums that read it.
    return lax.optimization_barrier(result * small)
