"""Scores of predictions against labels."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax.metrics._examples import examples, is_correct, mean, predictions


def error_rate(
    log_probs: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Fraction of the examples whose most probable class is not the label.

    Returns:
        A scalar in [0, 1]. Of equally probable classes the first is the prediction.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import error_rate
        >>> log_probs = jnp.log(jnp.array([[0.9, 0.1], [0.4, 0.6]]))
        >>> print(error_rate(log_probs, jnp.array([0, 0])))
        0.5
    """
    log_probs, is_target, where = examples(log_probs, labels, where)
    return mean(1.0 - is_correct(log_probs, is_target), where)


def nll(log_probs: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """Mean negative log-likelihood of the labels, in nats.

    Returns:
        A scalar of at least 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import nll
        >>> print(f"{nll(jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([0])):.4f}")
        0.6931
    """
    log_probs, is_target, where = predictions(log_probs, labels, where)
    return -mean(jnp.sum(jnp.where(is_target, log_probs, 0.0), axis=-1), where)


def brier(log_probs: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """Brier score: squared distance of the probabilities and the one-hot label.

    Returns:
        A scalar in [0, 2]: the sum over classes, its mean over examples.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import brier
        >>> print(brier(jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([0])))
        0.5

    References:
        Brier, Verification of Forecasts Expressed in Terms of Probability, 1950.
    """
    log_probs, is_target, where = predictions(log_probs, labels, where)
    one_hot = is_target.astype(log_probs.dtype)
    return mean(jnp.sum(jnp.square(jnp.exp(log_probs) - one_hot), axis=-1), where)
