"""Checked predictions and labels, and which of them count."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks


def examples(
    log_probs: ArrayLike, labels: ArrayLike, where: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Predictions `[..., K]`, which class is the label `[..., K]`, and which examples count.

    Predictions that do not count are 0.
    """
    (array,) = _checks.promote(_checks.class_array("log_probs", log_probs))
    is_target = _checks.target_mask(labels, array, "log_probs")
    if array.size == 0:
        raise ValueError(f"log_probs must have at least one example, but has shape {array.shape}")
    mask = _checks.example_mask(where, array.shape[:-1], "labels")
    if mask is not None:
        # Before anything is computed of them, since the gradient of a NaN that is dropped later is
        # NaN.
        array = jnp.where(mask[..., None], array, 0.0)
    return array, is_target, mask


def predictions(
    log_probs: ArrayLike, labels: ArrayLike, where: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """The `examples`, of predictions that can be log-probabilities."""
    checked = examples(log_probs, labels, where)
    _checks.log_probabilities("log_probs", log_probs, where)
    return checked


def is_correct(log_probs: jax.Array, is_target: jax.Array) -> jax.Array:
    # A comparison and not a gather, since classes can be spread over devices.
    is_predicted = _checks.target_mask(jnp.argmax(log_probs, axis=-1), log_probs, "log_probs")
    return jnp.any(is_target & is_predicted, axis=-1).astype(log_probs.dtype)


def mean(values: jax.Array, where: jax.Array | None) -> jax.Array:
    """The mean of the values that count; NaN if none does."""
    if where is None:
        return jnp.mean(values)
    return jnp.sum(jnp.where(where, values, 0.0)) / jnp.sum(where).astype(values.dtype)


def sort_kept_first(values: jax.Array, where: jax.Array | None) -> jax.Array:
    """The order that sorts values `[N]`, those that count before the others."""
    return jnp.argsort(values) if where is None else jnp.lexsort((values, ~where))
