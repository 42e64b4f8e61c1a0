"""What runs over the classes of an example, which may be spread over an axis of `shard_map`."""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from dropmax_jax import _checks

_Values = TypeVar("_Values")


class Classes(NamedTuple):
    """Reductions over the last axis.

    Attributes:
        axis_name: The axis of `shard_map` over which classes are spread, None if they are not.
        on_cpu: Whether to compute as is quick there.
        balanced: Whether the label regression is; see `regression_weights`.
    """

    axis_name: str | None = None
    on_cpu: bool = False
    balanced: bool = False

    def sum(self, values: Array) -> Array:
        """The sum `[...]` of values `[..., K]`."""
        if self.on_cpu:
            # XLA adds one number after the other there, but not in a product.
            ones = jnp.ones(values.shape[-1], values.dtype)
            return jnp.dot(values, ones, precision=lax.Precision.HIGHEST)
        total = jnp.sum(values, axis=-1)
        return total if self.axis_name is None else lax.psum(total, self.axis_name)

    def max(self, values: Array) -> Array:
        """The largest `[..., 1]` of values `[..., K]`, a constant to JAX."""
        # Of a constant, since pmax has no derivative.
        largest = jnp.max(lax.stop_gradient(values), axis=-1, keepdims=True)
        return largest if self.axis_name is None else lax.pmax(largest, self.axis_name)

    def logsumexp(self, values: Array) -> Array:
        """The log `[..., 1]` of the sum of the exponentials of values `[..., K]`."""
        if self.axis_name is None:
            return jax.nn.logsumexp(values, axis=-1, keepdims=True)
        largest = self.max(values)
        return jnp.log(self.sum(jnp.exp(values - largest))[..., None]) + largest

    def target(self, labels: Array, logits: Array) -> Array:
        """Booleans `[..., K]` of integer labels, and probabilities as they are."""
        if self.axis_name is not None and jnp.issubdtype(labels.dtype, jnp.integer):
            # Counted from the first class that is here.
            labels = labels.astype(jnp.int32) - self.share() * logits.shape[-1]
        if self.on_cpu and jnp.issubdtype(labels.dtype, jnp.integer):
            # A kernel that counts classes does so in 64 bits, and then computes all else at half
            # the speed or less. Numbers that begin at 1 are read from memory.
            numbers = np.arange(1, logits.shape[-1] + 1, dtype=np.int32)
            numbers = np.expand_dims(numbers, tuple(range(labels.ndim)))
            return labels[..., None].astype(jnp.int32) + 1 == numbers
        return _checks.target(labels, logits, "logits")

    def apart(self, values: _Values) -> _Values:
        """The same values, which XLA takes for others on CPU.

        So each kernel computes the exponentials that it needs. That takes no longer than to write
        them into memory for all, and to read them again.
        """
        return lax.optimization_barrier(values) if self.on_cpu else values

    def share(self) -> Array | int:
        """Which share of the classes is here."""
        return 0 if self.axis_name is None else lax.axis_index(self.axis_name)

    def num_shares(self) -> int:
        """How many shares there are."""
        return 1 if self.axis_name is None else int(lax.axis_size(self.axis_name))

    def regression_weights(
        self, columns: int, count: Array | None
    ) -> tuple[Array | float, Array | float]:
        """What the label regression's term of the target counts, and that of another class.

        Balanced, they are 4 (K - 1) / K and 4 / K, for K classes: the target counts as much as all
        other classes together.

        Args:
            columns: How many classes are here.
            count: How many classes each example has, `[...]`; None for all.
        """
        if not self.balanced:
            return 1.0, 1.0
        if count is None:
            number = columns * self.num_shares()
            return 4.0 * (number - 1) / number, 4.0 / number
        share = 4.0 / count[..., None]
        return 4.0 - share, share
