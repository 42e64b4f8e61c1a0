"""Residual networks for small images, those of the paper's CIFAR experiments.

References:
    He et al., `Deep Residual Learning for Image Recognition <https://arxiv.org/abs/1512.03385>`_,
    2016: basic blocks in four stages, here after one 3x3 convolution that keeps the size.
"""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from dropmax_jax import Heads
from dropmax_jax.linen import DropMaxHeads
from experiments.networks._layers import check_image_size, dropout

_he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut.

    Attributes:
        features: Number of output channels.
        stride: Of the first convolution, and of the shortcut.
        conv: Makes a convolution of `features`, kernel size and stride.
        norm: Makes a normalisation.
    """

    features: int
    stride: int
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Maps `[B, H, W, C]` to `[B, H / stride, W / stride, features]`, rounded up."""
        outputs = self.conv(self.features, (3, 3), self.stride)(inputs)
        outputs = nn.relu(self.norm()(outputs))
        outputs = self.norm()(self.conv(self.features, (3, 3))(outputs))
        if inputs.shape != outputs.shape:
            inputs = self.norm()(self.conv(self.features, (1, 1), self.stride)(inputs))
        return nn.relu(inputs + outputs)


class ResNet(nn.Module):
    """A residual network of basic blocks, for images of any size.

    Batch normalisation uses the batch's statistics while `batch_stats` is mutable, and the running
    ones otherwise.

    Attributes:
        num_classes: K.
        heads: Fields of `Heads` to give, as a method names them (`METHODS["dropmax"].heads`).
        dropout_rate: Of the features before the heads; used only with a `dropout_key`.
        dtype: Of the computation; parameters, statistics and heads are float32.
        blocks: Of each stage.
        width: Channels of the first stage; each later one has twice as many.
        axis_name: Of the mapped axis over whose devices a batch is normalised; None for one device.

    >>> import jax
    >>> network = ResNet(num_classes=7, blocks=(1, 1))
    >>> images = jnp.zeros((2, 32, 32, 3))
    >>> variables = network.init(jax.random.key(0), images)
    >>> network.apply(variables, images).logits.shape
    (2, 7)
    """

    # XLA:CPU runs a convolution in a loop far more slowly than outside of it.
    loops_on_cpu: ClassVar[bool] = False

    num_classes: int = 10
    heads: Sequence[str] = ("logits",)
    dropout_rate: float = 0.0
    dtype: DTypeLike = jnp.float32
    blocks: Sequence[int] = (2, 2, 2, 2)
    width: int = 64
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: Array, dropout_key: Array | None = None) -> Heads:
        """Maps images to heads.

        Args:
            images: Float array `[B, H, W, C]` of pixels in [0, 1].
            dropout_key: A PRNG key, or `[B]` keys, one per example; None for no dropout.

        Returns:
            `Heads` of float32 arrays `[B, K]`.

        Raises:
            ValueError: These are no images.
        """
        check_image_size(images, 1)
        conv = functools.partial(
            nn.Conv, use_bias=False, dtype=self.dtype, kernel_init=_he_normal, padding="SAME"
        )
        norm = functools.partial(
            nn.BatchNorm,
            use_running_average=not self.is_mutable_collection("batch_stats"),
            momentum=0.9,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        features = nn.relu(norm()(conv(self.width, (3, 3))(images)))
        for stage, count in enumerate(self.blocks):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                features = BasicBlock(self.width * 2**stage, stride, conv, norm)(features)
        pooled = dropout(jnp.mean(features, (1, 2)), dropout_key, self.dropout_rate)
        layer = DropMaxHeads(self.num_classes, self.heads, dtype=self.dtype, name="heads")
        return layer(pooled)
