"""DropMax for Haiku. Needs dm-haiku: `pip install .[haiku]`."""

from collections.abc import Sequence

import haiku as hk
import jax.numpy as jnp
from jax import Array

from dropmax_jax.heads import Heads, check_names


class DropMaxHeads(hk.Module):
    """One linear layer for each head, named as in `Heads`: the last layer of a classifier.

    The parameters and the computation have the type of the features, as `hk.Linear`'s have; a
    policy of `hk.mixed_precision` for `hk.Linear` changes them.

    Example:
        >>> import haiku as hk
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.haiku import DropMaxHeads
        >>> network = hk.transform(lambda features: DropMaxHeads(num_classes=10)(features))
        >>> features = jnp.ones((8, 64))
        >>> params = network.init(jax.random.key(0), features)
        >>> network.apply(params, None, features).prior_logits.shape
        (8, 10)
    """

    def __init__(
        self,
        num_classes: int,
        heads: Sequence[str] = Heads._fields,
        with_bias: bool = True,
        w_init: hk.initializers.Initializer | None = None,
        b_init: hk.initializers.Initializer | None = None,
        name: str | None = None,
    ) -> None:
        """Sets up the layers, with the defaults of `hk.Linear`.

        Args:
            num_classes: How many classes there are, K.
            heads: Names of the heads to give, by default all three; the others are None.
            with_bias: Whether the layers have biases.
            w_init: Initialiser of the weights.
            b_init: Initialiser of the biases.
            name: Of the module, by default `drop_max_heads`.

        Raises:
            ValueError: `heads` lacks the class logits, or names no field of `Heads`.
        """
        super().__init__(name=name)
        check_names(heads)
        self.num_classes = num_classes
        self.heads = tuple(heads)
        self.with_bias = with_bias
        self.w_init = w_init
        self.b_init = b_init

    def __call__(self, features: Array) -> Heads:
        """Maps features `[..., D]` to heads `[..., K]`, in float32."""
        layers = {
            name: hk.Linear(self.num_classes, self.with_bias, self.w_init, self.b_init, name=name)
            for name in self.heads
        }
        return Heads(
            **{name: layer(features).astype(jnp.float32) for name, layer in layers.items()}
        )
