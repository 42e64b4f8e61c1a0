"""DropMax for Flax NNX. Needs flax: `pip install .[flax]`."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike

from dropmax_jax.heads import Heads, check_names


class DropMaxHeads(nnx.Module):
    """One linear layer for each head, named as in `Heads`: the last layer of a classifier.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from dropmax_jax.nnx import DropMaxHeads
        >>> layer = DropMaxHeads(in_features=64, num_classes=10, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((8, 64))).prior_logits.shape
        (8, 10)
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        heads: Sequence[str] = Heads._fields,
        *,
        use_bias: bool = True,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        kernel_init: Initializer = nnx.initializers.lecun_normal(),  # noqa: B008
        bias_init: Initializer = nnx.initializers.zeros_init(),  # noqa: B008
        rngs: nnx.Rngs,
    ) -> None:
        """Makes the layers, with the defaults of `nnx.Linear`.

        Args:
            in_features: How many features there are, D.
            num_classes: How many classes there are, K.
            heads: Names of the heads to give, by default all three; the others are None.
            use_bias: Whether the layers have biases.
            dtype: Type of the computation, by default inferred; the heads are float32.
            param_dtype: Type of the parameters.
            kernel_init: Initialiser of the kernels.
            bias_init: Initialiser of the biases.
            rngs: Gives the keys of the parameters.

        Raises:
            ValueError: `heads` lacks the class logits, or names no field of `Heads`.
        """
        check_names(heads)

        def layer() -> nnx.Linear:
            return nnx.Linear(
                in_features,
                num_classes,
                use_bias=use_bias,
                dtype=dtype,
                param_dtype=param_dtype,
                kernel_init=kernel_init,
                bias_init=bias_init,
                rngs=rngs,
            )

        self.logits = layer()
        self.prior_logits = layer() if "prior_logits" in heads else None
        self.label_logits = layer() if "label_logits" in heads else None

    def __call__(self, features: Array) -> Heads:
        """Maps features `[..., D]` to heads `[..., K]`."""

        def head(layer: nnx.Linear | None) -> Any:
            return None if layer is None else layer(features).astype(jnp.float32)

        return Heads(head(self.logits), head(self.prior_logits), head(self.label_logits))
