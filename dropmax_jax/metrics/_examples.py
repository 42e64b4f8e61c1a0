"""Checked predictions and labels."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks


def examples(log_probs: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    (array,) = _checks.promote(_checks.class_array("log_probs", log_probs))
    is_target = _checks.target_mask(labels, array.shape, "log_probs")
    if array.size == 0:
        raise ValueError(f"log_probs must have at least one example, but has shape {array.shape}")
    return array, is_target


def is_correct(log_probs: jax.Array, is_target: jax.Array) -> jax.Array:
    prediction = jnp.argmax(log_probs, axis=-1)[..., None]
    picked = jnp.take_along_axis(is_target, prediction, axis=-1)
    return picked[..., 0].astype(log_probs.dtype)
