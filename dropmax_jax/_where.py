"""Which examples count, and which classes exist.

Heads and labels of the rest become numbers that cost nothing: they have no probability, every term
of theirs is 0, and no gradient leads back to what stood there, NaN or not.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks
from dropmax_jax.heads import Heads, head_arrays

# With these, q, ρ and r of a class are 0, and a finite logit makes finite products.
ABSENT = {"logits": _checks.NO_CLASS, "prior_logits": -1e6, "label_logits": -1e6}


class Where(NamedTuple):
    """What counts; None for all.

    Attributes:
        examples: Booleans `[...]`.
        classes: Booleans `[..., K]`.
        shape: That of the heads.
    """

    examples: jax.Array | None = None
    classes: jax.Array | None = None
    shape: tuple[int, ...] = ()

    def heads(self, heads: Heads) -> Heads:
        """The heads of what counts, and numbers that cost nothing for the rest."""
        if self.examples is None:
            return heads
        given = {name: head for name, head in heads._asdict().items() if head is not None}
        return heads._replace(
            **{name: self._clean(head, ABSENT[name]) for name, head in given.items()}
        )

    def labels(self, labels: ArrayLike) -> ArrayLike:
        """The labels of what counts, and 0 for the rest."""
        if self.examples is None:
            return labels
        array = _checks.soft_labels(labels, self.shape, "logits")
        if array.ndim == self.examples.ndim:
            return jnp.where(self.examples, array, jnp.zeros((), array.dtype))
        array = array if self.classes is None else jnp.where(self.classes, array, 0.0)
        return jnp.where(self.examples[..., None], array, jnp.zeros((), array.dtype))

    def per_example(self, values: jax.Array) -> jax.Array:
        """Values `[...]` of the examples that count, and 0 for the rest."""
        return values if self.examples is None else jnp.where(self.examples, values, 0.0)

    def per_class(self, log_probs: jax.Array) -> jax.Array:
        """Log-probabilities `[..., K]` of the classes that exist, and minus infinity of others."""
        if self.classes is None:
            return log_probs
        # An example without classes has some probabilities, but none that count.
        exists = self.classes | ~jnp.any(self.classes, axis=-1, keepdims=True)
        return jnp.where(exists, log_probs, -jnp.inf)

    def zeros(self, values: jax.Array) -> jax.Array:
        """Values `[..., K]` of what counts, and 0 for the rest."""
        return self._clean(values, 0.0)

    def _clean(self, head: jax.Array, absent: float) -> jax.Array:
        if self.classes is not None:
            head = jnp.where(self.classes, head, absent)
        if self.examples is not None:
            head = jnp.where(self.examples[..., None], head, 0.0)
        return head


def parse(where: ArrayLike | None, shape: tuple[int, ...], axis_name: str | None = None) -> Where:
    """What counts of heads of a shape `[..., K]`.

    Raises:
        ValueError: `where` fits neither the examples nor the classes.
        TypeError: It does not hold booleans.
    """
    if where is None:
        return Where()
    array = _checks.bool_array("where", where)
    if array.ndim == len(shape) and _broadcasts(array.shape, shape):
        classes = jnp.broadcast_to(array, shape)
        examples = jnp.any(classes, axis=-1)
        if axis_name is not None:
            examples = jax.lax.psum(examples.astype(jnp.int32), axis_name) > 0
        return Where(examples, classes, shape)
    if array.ndim == len(shape) - 1 and _broadcasts(array.shape, shape[:-1]):
        return Where(jnp.broadcast_to(array, shape[:-1]), None, shape)
    raise ValueError(
        f"where must have shape {shape[:-1]}, for examples, or {shape}, for classes, "
        f"but has shape {array.shape}"
    )


def head_arrays_of(
    where: ArrayLike | None, heads: Heads, *names: str, axis_name: str | None = None
) -> tuple[Where, tuple[jax.Array, ...]]:
    """What counts, and the heads of these names: checked, and cleaned of what does not count."""
    arrays = head_arrays(heads, *names)
    if where is None:
        return Where(), arrays
    counts = parse(where, arrays[0].shape, axis_name)
    return counts, head_arrays(counts.heads(heads), *names)


def parse_for(where: ArrayLike | None, heads: Heads) -> Where:
    """`parse` for the shape of heads, whatever of them there are."""
    if where is None:
        return Where()
    names = [name for name in Heads._fields if getattr(heads, name, None) is not None]
    return parse(where, head_arrays(heads, *(names or Heads._fields))[0].shape)


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return all(size in (1, wanted) for size, wanted in zip(shape, to, strict=True))
