"""DropMax for Equinox. Needs equinox: `pip install .[equinox]`."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from dropmax_jax.heads import Heads, check_names


class DropMaxHeads(eqx.Module):
    """One linear layer for each head, named as in `Heads`: the last layer of a classifier.

    Attributes:
        logits: The layer of the class logits.
        prior_logits: The layer of the prior; None if unused.
        label_logits: The layer that regresses the label; None if unused.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.equinox import DropMaxHeads
        >>> layer = DropMaxHeads(in_features=64, num_classes=10, key=jax.random.key(0))
        >>> jax.vmap(layer)(jnp.ones((8, 64))).prior_logits.shape
        (8, 10)
    """

    logits: eqx.nn.Linear
    prior_logits: eqx.nn.Linear | Any  # `Any` stands for None, as in `Heads`.
    label_logits: eqx.nn.Linear | Any

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        heads: Sequence[str] = Heads._fields,
        use_bias: bool = True,
        dtype: DTypeLike | None = None,
        *,
        key: Array,
    ) -> None:
        """Makes the layers, with the defaults of `equinox.nn.Linear`.

        Args:
            in_features: How many features there are, D.
            num_classes: How many classes there are, K.
            heads: Names of the heads to give, by default all three; the others are None.
            use_bias: Whether the layers have biases.
            dtype: Type of the parameters. The computation's follows from it and the features'; the
                heads are float32.
            key: For the parameters.

        Raises:
            ValueError: `heads` lacks the class logits, or names no field of `Heads`.
        """
        check_names(heads)
        layers = {
            name: eqx.nn.Linear(in_features, num_classes, use_bias, dtype, key=layer_key)
            for name, layer_key in zip(Heads._fields, jax.random.split(key, 3), strict=True)
            if name in heads
        }
        self.logits = layers["logits"]
        self.prior_logits = layers.get("prior_logits")
        self.label_logits = layers.get("label_logits")

    def __call__(self, features: Array, *, key: Array | None = None) -> Heads:
        """Maps features `[..., D]` to heads `[..., K]`, unlike Equinox's own also without `vmap`.

        Args:
            features: `[..., D]`.
            key: Ignored; `equinox.nn.Sequential` passes one.

        Returns:
            The heads `[..., K]`.
        """

        def head(layer: eqx.nn.Linear | None) -> Any:
            if layer is None:
                return None
            return jnp.vectorize(layer, signature="(d)->(k)")(features).astype(jnp.float32)

        return Heads(head(self.logits), head(self.prior_logits), head(self.label_logits))
