"""The parts that the networks share: convolutional block, dense layer, dropout."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from experiments.networks.convolution import conv_relu_pool

glorot_uniform = nn.initializers.glorot_uniform()


def check_image_size(images: Array, least: int) -> None:
    """Raises `ValueError` if these are no images `[B, H, W, C]`, or have fewer rows or columns."""
    if images.ndim != 4:
        raise ValueError(f"it reads images, but an example is {images.shape[1:]}, a row of bytes")
    height, width = images.shape[1:3]
    if min(height, width) < least:
        raise ValueError(
            f"images must have {least}x{least} pixels at least, but have {width}x{height}"
        )


class ConvReluPool(nn.Module):
    """A 5x5 convolution, relu and 2x2 max-pooling with stride 2.

    Pooling leaves out the last of an odd number of rows or columns.

    Attributes:
        features: Number of output channels.
        padding: Pixels of zeros added on each side first; 2 keeps the size ("SAME").
        dtype: Of the computation; parameters are float32.
    """

    features: int
    padding: int = 0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps `[B, H, W, C]` to `[B, H', W', features]`."""
        kernel = self.param("kernel", glorot_uniform, (5, 5, images.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        images, kernel, bias = nn.dtypes.promote_dtype(images, kernel, bias, dtype=self.dtype)
        height, width = images.shape[1:3]
        if height % 2 == width % 2 == 0:
            return conv_relu_pool(images, kernel, bias, self.padding)
        margin = (self.padding, self.padding)
        images = jnp.pad(images, ((0, 0), margin, margin, (0, 0)))
        height, width = (size - size % 2 for size in images.shape[1:3])
        return conv_relu_pool(images[:, :height, :width], kernel, bias)


class DenseRelu(nn.Module):
    """A dense layer and relu."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Maps `[B, D]` to `[B, features]`."""
        return nn.relu(
            nn.Dense(self.features, dtype=self.dtype, kernel_init=glorot_uniform)(inputs)
        )


def dropout(features: Array, key: Array | None, rate: float) -> Array:
    """Sets each feature to zero with probability `rate` and scales the others to keep the mean.

    Args:
        features: Float array `[B, D]`.
        key: One PRNG key for the batch, or `[B]` new-style keys, one per example, which make an
            example's noise independent of how a batch is spread over devices; None for no dropout.
        rate: Probability, in [0, 1).

    Returns:
        Float array `[B, D]`.

    >>> dropout(jnp.ones((2, 3)), None, 0.5).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout rate must be in [0, 1), not {rate}")
    if key is None or rate == 0:
        return features
    keep = 1 - rate
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 1:
        if key.shape != features.shape[:1]:
            raise ValueError(
                f"there must be a dropout key for each of {len(features)} examples, or one for "
                f"all, but there are {len(key)}"
            )
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, features.shape[1:]))(key)
    else:
        kept = jax.random.bernoulli(key, keep, features.shape)
    return jnp.where(kept, features / keep, 0)
