"""Linear heads to test with, and the losses of heads that are in memory as a whole."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dropmax_jax import Heads, dropmax_balanced_loss, dropmax_loss

KEY = jax.random.key(5)


class Inputs(NamedTuple):
    """What the losses of linear heads take."""

    features: jax.Array
    kernels: Heads
    biases: Heads
    labels: jax.Array


def inputs(shape: tuple[int, ...], dtype: Any = jnp.float32) -> Inputs:
    """Random inputs for `[..., K, D]`."""
    *batch, num_classes, width = shape
    rng = np.random.default_rng(sum(shape))

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), dtype)

    return Inputs(
        normal(*batch, width),
        Heads(*(normal(width, num_classes) for _ in range(3))),
        Heads(*(normal(num_classes) for _ in range(3))),
        jnp.asarray(rng.integers(0, num_classes, batch), jnp.int32),
    )


def whole(features: jax.Array, kernels: Heads, biases: Heads) -> Heads:
    """The heads."""
    pairs = zip(kernels, biases, strict=True)
    return Heads(*(features @ kernel + bias for kernel, bias in pairs))


def smooth(labels: jax.Array, exists: jax.Array, share: float) -> jax.Array:
    """Labels of which a share is spread over the classes that exist, `[..., K]`."""
    uniform = exists / jnp.maximum(exists.sum(-1, keepdims=True), 1)
    return (1 - share) * jax.nn.one_hot(labels, exists.shape[-1]) + share * uniform


def whole_loss(
    given: Inputs,
    *,
    key: jax.Array = KEY,
    where: jax.Array | None = None,
    label_smoothing: float = 0.0,
    balanced: bool = False,
    **settings: Any,
) -> jax.Array:
    """What `dropmax_linear_loss` must give."""
    heads = whole(given.features, given.kernels, given.biases)
    labels = given.labels
    if label_smoothing:
        exists = jnp.ones(heads.logits.shape, bool)
        if where is not None and where.ndim == exists.ndim:
            exists = jnp.broadcast_to(where, exists.shape)
        labels = smooth(labels, exists, label_smoothing)
    loss = dropmax_balanced_loss if balanced else dropmax_loss
    return loss(key, heads, labels, where=where, **settings)
