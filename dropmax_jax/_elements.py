"""The loss's terms of single classes with their derivatives, taken by hand.

The code calls the logits of q, ρ and r a, b and c, and labels y. JAX differentiates these lines for
second derivatives. So comparisons count 0 as positive, as the derivative of jnp.abs does, and only
the b within a is constant.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from dropmax_jax import _checks
from dropmax_jax.concrete import sigmoids

# A logit whose sigmoid is 1 to the last digit, and whose products are finite.
_CERTAIN = 1e6
# For ε above it, z + ε and its products with exp(logits - largest) are exact enough as they are.
_LARGE_EPSILON = 1e-24
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


class Mask(NamedTuple):
    """z + ε as exp(scale) (kept + rest), where the larger of kept and rest is from 1/2 to 1.

    So none is lost, however small z and ε are.

    Attributes:
        z: The mask, the sigmoid of its logit x.
        not_z: 1 - z.
        scale: At most 0.
        kept: exp(-scale) z.
        rest: exp(-scale) ε.
    """

    z: Array
    not_z: Array
    scale: Array
    kept: Array
    rest: Array


def mask_logits(target: Array, a: Array, noise: Array, temperature: Array) -> Array:
    """The logits x of the mask, which is certain for a target of booleans."""
    x = (a + noise) / temperature
    return jnp.where(target, _CERTAIN, x) if target.dtype == jnp.bool_ else x


def mask(x: Array, epsilon: float) -> Mask:
    """The mask of the logits x."""
    larger, smaller = sigmoids(jnp.abs(x))
    z, not_z = (
        jnp.where(x >= 0.0, larger, smaller),
        jnp.where(x >= 0.0, smaller, larger),
    )
    if epsilon > _LARGE_EPSILON:
        return Mask(z, not_z, jnp.zeros_like(x), z, jnp.full_like(x, epsilon))
    scale = jnp.minimum(x, 0.0)
    if epsilon == 0.0:
        return Mask(z, not_z, scale, larger, jnp.zeros_like(x))
    gap = scale - _checks.log_epsilon(epsilon)
    ratio = jnp.exp(-jnp.abs(gap))
    return Mask(
        z,
        not_z,
        jnp.maximum(scale, _checks.log_epsilon(epsilon)),
        jnp.where(gap >= 0.0, larger, ratio * larger),
        jnp.where(gap >= 0.0, ratio, 1.0),
    )


class SoftCrossEntropy(NamedTuple):
    """The part of a class in the cross-entropy of a distribution of labels.

    Attributes:
        value: y times the cross-entropy if the class is the label.
        of_logits: Its derivative by the logit, at a given log of the sum over classes.
        of_x: By the logit of the mask.
        of_log_total: By the log of the sum.
    """

    value: Array
    of_logits: Array
    of_x: Array
    of_log_total: Array


def soft_cross_entropy(
    y: Array, logits: Array, x: Array, z: Array, log_total: Array
) -> SoftCrossEntropy:
    """For labels y, given the log of the sum over the masked classes."""
    # Were k the label, z_k would be 1: the sum over classes would grow by o_k's share 1 - z_k.
    above = logits - _softplus(x) - log_total
    grows, stays = sigmoids(above)
    value = y * (log_total - logits + _softplus(above))
    return SoftCrossEntropy(value, -y * stays, -z * y * grows, y * stays)


class Regularisers(NamedTuple):
    """The three other terms of a class, and their derivatives by b and c."""

    kl: Array
    regression: Array
    negative_entropy: Array
    kl_of_b: Array
    kl_of_c: Array
    regression_of_c: Array
    negative_entropy_of_b: Array


def regularisers(
    target: Array,
    b: Array,
    c: Array,
    weights: tuple[Array | float, Array | float] | None,
    *,
    keep_logs: bool = True,
) -> Regularisers:
    """For a target of booleans or probabilities.

    Args:
        target: Of the label.
        b: Logits of ρ.
        c: Logits of r.
        weights: Of the label regression for the target and for other classes; None for 1.
        keep_logs: Whether XLA computes the logarithms once for all sums that read them.
    """
    is_hard = target.dtype == jnp.bool_
    y, not_y = target.astype(b.dtype), 1.0 - target.astype(b.dtype)
    constant_b = lax.stop_gradient(b)
    a, a_minus_b = constant_b + c, c - (b - constant_b)
    (q, not_q), (rho, not_rho), (r, not_r) = sigmoids(a), sigmoids(b), sigmoids(c)
    # Large numbers meet only where a probability weighs them down; see `concrete._kl`.
    log_a, log_b, log_c = map(_log1p_exp_abs, (a, b, c))
    if keep_logs:
        log_a, log_b, log_c = lax.optimization_barrier((log_a, log_b, log_c))
    b_above, b_below = _parts(b)
    c_above, c_below = _parts(c)
    kl = log_b - log_a + jnp.where(a >= 0.0, b_below - not_q * a_minus_b, b_above + q * a_minus_b)
    of_target, of_other = weights or (1.0, 1.0)
    if is_hard:
        kl = jnp.where(target, log_b + b_below, kl)
        regression = log_c + jnp.where(target, c_below, c_above)
        if weights is not None:
            regression *= jnp.where(target, of_target, of_other)
    else:
        kl = y * (log_b + b_below) + not_y * kl
        regression = log_c + y * c_below + not_y * c_above
        if weights is not None:
            regression = of_target * y * (log_c + c_below) + of_other * not_y * (log_c + c_above)
    return Regularisers(
        kl,
        regression,
        -log_b - jnp.where(b >= 0.0, b * not_rho, -b * rho),
        not_y * (rho - q) - y * not_rho,
        not_y * q * not_q * a_minus_b,
        of_other * not_y * r - of_target * y * not_r,
        b * rho * not_rho,
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
    return result * small
