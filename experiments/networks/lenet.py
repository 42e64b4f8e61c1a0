"""LeNet, the network of the authors' MNIST code."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from dropmax_jax import Heads
from dropmax_jax.linen import DropMaxHeads
from experiments.networks._layers import ConvReluPool, DenseRelu, check_image_size, dropout


class LeNet(nn.Module):
    """LeNet: two 5x5 convolutions without padding, each with relu and pooling; dense 500; heads.

    Attributes:
        num_classes: K.
        heads: Fields of `Heads` to give, as a method names them (`METHODS["dropmax"].heads`).
        dropout_rate: Of the features before the heads; used only with a `dropout_key`.
        dtype: Of the computation; parameters and heads are float32.

    >>> import jax
    >>> network = LeNet(heads=("logits", "prior_logits", "label_logits"))
    >>> images = jnp.zeros((2, 28, 28, 1))
    >>> heads = network.apply(network.init(jax.random.key(0), images), images)
    >>> heads.logits.shape
    (2, 10)
    """

    num_classes: int = 10
    heads: Sequence[str] = ("logits",)
    dropout_rate: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Array, dropout_key: Array | None = None) -> Heads:
        """Maps images to heads.

        Args:
            images: Float array `[B, H, W, C]` of pixels in [0, 1]; 28 x 28 x 1 for MNIST.
            dropout_key: A PRNG key, or `[B]` keys, one per example; None for no dropout.

        Returns:
            `Heads` of float32 arrays `[B, K]`.

        Raises:
            ValueError: These are no images, or have fewer than 16 x 16 pixels.
        """
        check_image_size(images, 16)
        features = ConvReluPool(20, dtype=self.dtype)(images)
        features = ConvReluPool(50, dtype=self.dtype)(features)
        features = features.reshape(images.shape[0], math.prod(features.shape[1:]))
        features = DenseRelu(500, dtype=self.dtype)(features)
        features = dropout(features, dropout_key, self.dropout_rate)
        layer = DropMaxHeads(self.num_classes, self.heads, dtype=self.dtype, name="heads")
        return layer(features)
