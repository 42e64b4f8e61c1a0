"""DropMax for Flax Linen. Needs flax: `pip install .[flax]`."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from dropmax_jax.heads import Heads


class DropMaxHeads(nn.Module):
    """One dense layer for each head, named as in `Heads`: the last layer of a classifier.

    Attributes:
        num_classes: K.
        heads: Names of the heads to give, by default all three; the others are None.
        dtype: Type of the computation; the parameters and the heads are float32.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.linen import DropMaxHeads
        >>> layer, features = DropMaxHeads(num_classes=10), jnp.ones((8, 64))
        >>> params = layer.init(jax.random.key(0), features)
        >>> layer.apply(params, features).prior_logits.shape
        (8, 10)
    """

    num_classes: int
    heads: Sequence[str] = Heads._fields
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, features: Array) -> Heads:
        """Maps features `[..., D]` to heads `[..., K]`.

        Raises:
            ValueError: `heads` names no field of `Heads`.
        """
        if unknown := set(self.heads) - set(Heads._fields):
            raise ValueError(f"heads must be among {Heads._fields}, not {sorted(unknown)}")
        init = nn.initializers.glorot_uniform()
        layers = {
            name: nn.Dense(self.num_classes, dtype=self.dtype, kernel_init=init, name=name)
            for name in self.heads
        }
        return Heads(
            **{name: layer(features).astype(jnp.float32) for name, layer in layers.items()}
        )
