"""DropMax for Flax Linen. Needs flax: `pip install .[flax]`."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike

from dropmax_jax.heads import Heads, check_names


class DropMaxHeads(nn.Module):
    """One dense layer for each head, named as in `Heads`: the last layer of a classifier.

    Attributes:
        num_classes: How many classes there are, K.
        heads: Names of the heads to give, by default all three; the others are None.
        dtype: Type of the computation; the heads are float32. None infers it, as `nn.Dense` does.
        use_bias: Whether the layers have biases.
        param_dtype: Type of the parameters.
        kernel_init: Initialiser of the kernels, by default the authors'.
        bias_init: Initialiser of the biases.

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
    dtype: DTypeLike | None = jnp.float32
    use_bias: bool = True
    param_dtype: DTypeLike = jnp.float32
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, features: Array) -> Heads:
        """Maps features `[..., D]` to heads `[..., K]`.

        Raises:
            ValueError: `heads` lacks the class logits, or names no field of `Heads`.
        """
        check_names(self.heads)
        layers = {
            name: nn.Dense(
                self.num_classes,
                use_bias=self.use_bias,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                kernel_init=self.kernel_init,
                bias_init=self.bias_init,
                name=name,
            )
            for name in self.heads
        }
        return Heads(
            **{name: layer(features).astype(jnp.float32) for name, layer in layers.items()}
        )
