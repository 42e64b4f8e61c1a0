"""A network for short texts, which reads their bytes."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from dropmax_jax import Heads
from dropmax_jax.linen import DropMaxHeads
from experiments.networks._layers import dropout, glorot_uniform

_WIDTH = 3


class Text(nn.Module):
    """An embedding of bytes, a convolution over three of them with relu, the maximum, and heads.

    The zeros behind a text are no part of it: they change nothing.

    Attributes:
        num_classes: K.
        heads: Fields of `Heads` to give, as a method names them (`METHODS["dropmax"].heads`).
        dropout_rate: Of the features before the heads; used only with a `dropout_key`.
        dtype: Of the computation; parameters and heads are float32.

    >>> texts = jnp.array([[*b"Deutschland", 0], [*b"Sverige", 0, 0, 0, 0, 0]], jnp.uint8)
    >>> network = Text(num_classes=7)
    >>> network.apply(network.init(jax.random.key(0), texts), texts).logits.shape
    (2, 7)
    """

    num_classes: int = 10
    heads: Sequence[str] = ("logits",)
    dropout_rate: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, texts: Array, dropout_key: Array | None = None) -> Heads:
        """Maps texts to heads.

        Args:
            texts: Bytes `[B, L]`, uint8, with zeros behind each text.
            dropout_key: A PRNG key, or `[B]` keys, one per example; None for no dropout.

        Returns:
            `Heads` of float32 arrays `[B, K]`.

        Raises:
            ValueError: The examples are not rows of bytes.
        """
        if texts.ndim != 2:
            raise ValueError(f"it reads texts, rows of bytes, but an example is {texts.shape[1:]}")
        # XLA:CPU is slow at convolutions in a loop, and at the gradient of looking up in a table:
        # both are products of matrices here. Of a zero, the row is all zeros.
        is_byte = jax.nn.one_hot(texts.astype(jnp.int32) - 1, 255, dtype=self.dtype)
        embed = nn.Dense(32, use_bias=False, dtype=self.dtype, kernel_init=nn.initializers.normal())
        embedded = embed(is_byte)
        margin = _WIDTH // 2
        padded = jnp.pad(embedded, ((0, 0), (margin, margin), (0, 0)))
        length = texts.shape[1]
        windows = jnp.concatenate([padded[:, i : i + length] for i in range(_WIDTH)], axis=-1)
        found = nn.relu(nn.Dense(256, dtype=self.dtype, kernel_init=glorot_uniform)(windows))
        # After the relu, a zero is as good as no position at all.
        features = jnp.max(jnp.where(texts[..., None] > 0, found, 0), axis=1, initial=0)
        features = dropout(features, dropout_key, self.dropout_rate)
        layer = DropMaxHeads(self.num_classes, self.heads, dtype=self.dtype, name="heads")
        return layer(features)
