"""Relaxed Bernoulli masks, and the divergence and entropy of Bernoulli variables, in log space.

Probabilities are given by their logits, and masks by their logs: a sigmoid rounds to 0 or 1 long
before its logit leaves the range of a float, and its log is then lost.

References:
    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_, 2018.

    Maddison et al., `The Concrete Distribution <https://arxiv.org/abs/1611.00712>`_, 2017.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dropmax_jax import _checks, _noise, _sharding


def concrete_log_mask(
    logits: ArrayLike, noise: ArrayLike, temperature: ArrayLike = 0.1
) -> jax.Array:
    r"""Log of a relaxed Bernoulli (binary concrete) variable, a function of the noise given.

    For a probability of one with the logit :math:`a`, logistic noise :math:`\xi` and the
    temperature :math:`\tau`, this is :math:`\log z` with

    .. math::
        z = \sigma((a + \xi) / \tau).

    As :math:`\tau \to 0`, z becomes a Bernoulli variable of mean :math:`\sigma(a)`. The paper
    writes the noise as :math:`\xi = \log u - \log(1 - u)` for a uniform :math:`u`.

    Args:
        logits: Logits of the probability that the mask is one, floating point `[..., K]`.
        noise: Standard logistic noise, of the shape of `logits`.
        temperature: τ, a positive scalar. A number is checked; a JAX array, traced or not, isn't.

    Returns:
        log z, `[..., K]`, at most 0; float64 if an argument is, else float32.

    Raises:
        ValueError: The shapes differ, there is no class, or the temperature is not positive.
        TypeError: `logits` or `noise` is not floating point, or `temperature` not a number.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import concrete_log_mask
        >>> log_mask = concrete_log_mask(jnp.array([-3.0, 0.0, 3.0]), jnp.zeros(3))
        >>> print(jnp.exp(log_mask).round(2))
        [0.  0.5 1. ]

    References:
        Lee et al. 2018, section 4 (the relaxation of z); Maddison et al. 2017, appendix B.
    """
    logits = _checks.class_array("logits", logits)
    noise = _checks.class_array("noise", noise)
    _checks.same_shape("noise", noise, logits.shape, "logits")
    logits, noise = _checks.promote(logits, noise)
    temperature = _checks.positive("temperature", temperature, logits.dtype)
    return log_sigmoid((logits + noise) / temperature)


def sample_log_mask(key: jax.Array, logits: ArrayLike, temperature: ArrayLike = 0.1) -> jax.Array:
    """Draws the log of a relaxed Bernoulli mask: `concrete_log_mask` with noise drawn from `key`.

    Args:
        key: A random key, of `jax.random.key` or `jax.random.PRNGKey`.
        logits: Logits of the probability that the mask is one, floating point `[..., K]`.
        temperature: τ, a positive scalar. A number is checked; a JAX array, traced or not, isn't.

    Returns:
        log z, `[..., K]`, at most 0; float64 if `logits` is, else float32.

    Raises:
        ValueError: There is no class, or the temperature is not positive, or there are many keys.
        TypeError: `key` is no key, `logits` not floating point, or `temperature` not a number.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import sample_log_mask
        >>> logits = jnp.full((10_000,), jnp.log(3.0))  # retained with probability 3/4
        >>> mask = jnp.exp(sample_log_mask(jax.random.key(0), logits, temperature=0.01))
        >>> bool(abs(mask.mean() - 0.75) < 0.02)
        True

    References:
        Lee et al. 2018, section 4 (the relaxation of z).
    """
    _checks.random_key(key)
    (logits,) = _checks.promote(_checks.class_array("logits", logits))
    sharding = _sharding.explicit(logits)
    noise = _noise.logistic(key, logits.shape, logits.dtype, sharding)
    return concrete_log_mask(logits, noise, temperature)


def bernoulli_kl(q_logits: ArrayLike, p_logits: ArrayLike) -> jax.Array:
    r"""Kullback-Leibler divergence of two Bernoulli variables, element by element, in nats.

    With :math:`q = \sigma(a)` and :math:`p = \sigma(b)`,

    .. math::
        \operatorname{KL}(q \| p) = q \log\frac{q}{p} + (1 - q) \log\frac{1 - q}{1 - p}.

    Its derivatives are :math:`q(1-q)(a-b)` in a and :math:`p - q` in b.

    Args:
        q_logits: Logits a of q, a floating-point array or scalar, finite.
        p_logits: Logits b of p, of a shape that broadcasts with that of `q_logits`.

    Returns:
        KL(q‖p), elementwise; float64 if an argument is, else float32.

    Raises:
        ValueError: The shapes do not broadcast.
        TypeError: An argument is not floating point.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import bernoulli_kl
        >>> print(bernoulli_kl(jnp.array([0.0, 1e4]), jnp.array([0.0, -1e4])))
        [    0. 10000.]

    References:
        Lee et al. 2018, section 4 (the KL term of the variational bound).
    """
    q_logits = _checks.float_array("q_logits", q_logits)
    p_logits = _checks.float_array("p_logits", p_logits)
    try:
        shape = jnp.broadcast_shapes(q_logits.shape, p_logits.shape)
    except ValueError as error:
        raise ValueError(
            f"p_logits must broadcast with q_logits, of shape {q_logits.shape}, "
            f"but has shape {p_logits.shape}"
        ) from error
    q_logits, p_logits = _checks.promote(q_logits, p_logits)
    return _kl(jnp.broadcast_to(q_logits, shape), jnp.broadcast_to(p_logits, shape))


def bernoulli_negative_entropy(logits: ArrayLike) -> jax.Array:
    r"""Negative entropy of Bernoulli variables, element by element, in nats.

    With :math:`\rho = \sigma(b)` this is :math:`\rho\log\rho + (1-\rho)\log(1-\rho)`, from
    :math:`-\log 2` at b = 0 to 0; its derivative is :math:`b\,\rho(1-\rho)`.

    Args:
        logits: Logits b of ρ, a floating-point array or scalar, finite.

    Returns:
        The negative entropy, elementwise; float64 if `logits` is, else float32.

    Raises:
        TypeError: `logits` is not floating point.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import bernoulli_negative_entropy
        >>> print(bernoulli_negative_entropy(jnp.array([0.0, 1e4])).round(4))
        [-0.6931 -0.    ]

    References:
        Lee et al. 2018, section 4 (the regulariser that keeps ρ from 0 and 1).
    """
    (logits,) = _checks.promote(_checks.float_array("logits", logits))
    return _negative_entropy(logits)


# The functions below define their own derivatives. Automatic differentiation would store several
# arrays of the size of the logits. It would also give wrong second derivatives where a logit is
# exactly 0, as all are in a network whose heads start from zero. All functions use exp(-|a|), which
# never overflows, and which XLA computes once if a loss calls several with the same logits.


@jax.custom_jvp
def log_sigmoid(logits: jax.Array) -> jax.Array:
    """Log of the sigmoid; jax.nn's is about half as fast, for a check for NaN in either pass."""
    return jnp.minimum(logits, 0.0) - _log1p_exp_abs(logits)


@log_sigmoid.defjvp
def _log_sigmoid_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (logits,), (tangent,) = primals, tangents
    return log_sigmoid(logits), sigmoids(logits)[1] * tangent


@jax.custom_jvp
def log_add_constant(log_mask: jax.Array, log_constant: jax.Array) -> jax.Array:
    """log(exp(log_mask) + constant), for a constant above 0; log_mask may be minus infinity."""
    return jnp.maximum(log_mask, log_constant) + _log1p_exp_abs(log_mask - log_constant)


@log_add_constant.defjvp
def _log_add_constant_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (log_mask, log_constant), (tangent, _) = primals, tangents
    weight = sigmoids(log_mask - log_constant)[0]
    return log_add_constant(log_mask, log_constant), weight * tangent


@jax.custom_jvp
def log_complement(log_mask: jax.Array) -> jax.Array:
    """log(1 - exp(log_mask)), minus infinity where the mask is 1."""
    # Each form is exact where the other rounds; above log 1/2 the first would lose digits.
    return jnp.where(
        log_mask > -math.log(2.0), jnp.log(-jnp.expm1(log_mask)), jnp.log1p(-jnp.exp(log_mask))
    )


@log_complement.defjvp
def _log_complement_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (log_mask,), (tangent,) = primals, tangents
    # Infinite where the mask is 1, but finite here: what it meets there is 0.
    complement = jnp.maximum(-jnp.expm1(log_mask), float(np.finfo(log_mask.dtype).tiny))
    return log_complement(log_mask), -jnp.exp(log_mask) / complement * tangent


@jax.custom_jvp
def _kl(q_logits: jax.Array, p_logits: jax.Array) -> jax.Array:
    # log q = min(a, 0) - s(a) and log(1-q) = min(-a, 0) - s(a), with s(a) = log(1 + exp(-|a|)).
    # Grouped so that numbers of the size of the logits meet only where a probability weighs them
    # down: q and p both close to 1 then differ by their small complements, without cancellation.
    q, not_q = sigmoids(q_logits)
    return (
        (_log1p_exp_abs(p_logits) - _log1p_exp_abs(q_logits))
        + q * (jnp.minimum(q_logits, 0.0) - jnp.minimum(p_logits, 0.0))
        + not_q * (jnp.maximum(p_logits, 0.0) - jnp.maximum(q_logits, 0.0))
    )


@_kl.defjvp
def _kl_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (q_logits, p_logits), (q_tangent, p_tangent) = primals, tangents
    (q, not_q), (p, _) = sigmoids(q_logits), sigmoids(p_logits)
    slope = q * not_q * (q_logits - p_logits)
    return _kl(q_logits, p_logits), slope * q_tangent + (p - q) * p_tangent


@jax.custom_jvp
def _negative_entropy(logits: jax.Array) -> jax.Array:
    size = jnp.abs(logits)
    return -_log1p_exp_abs(logits) - size * sigmoids(size)[1]


@_negative_entropy.defjvp
def _negative_entropy_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (logits,), (tangent,) = primals, tangents
    p, not_p = sigmoids(logits)
    return _negative_entropy(logits), logits * p * not_p * tangent


def _log1p_exp_abs(logits: jax.Array) -> jax.Array:
    return jnp.log1p(jnp.exp(-jnp.abs(logits)))


def sigmoids(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sigmoid and its complement, neither by subtraction."""
    small = jnp.exp(-jnp.abs(logits))
    positive = logits >= 0.0
    ratio = 1.0 / (1.0 + small)
    return jnp.where(positive, ratio, small * ratio), jnp.where(positive, small * ratio, ratio)
