"""What a network gives for each example: class logits, and the logits of the two mask heads."""

from typing import NamedTuple

import jax

from dropmax_jax import _checks


class Heads(NamedTuple):
    """What a network gives for each example, finite numbers `[..., K]`, classes last.

    Attributes:
        logits: o(x), the class logits.
        prior_logits: Logits of ρ(x), the probability that a class is retained; None if unused.
        label_logits: Logits of r(x), which regresses the one-hot label; None if unused.
    """

    logits: jax.Array
    prior_logits: jax.Array | None = None
    label_logits: jax.Array | None = None


def head_arrays(heads: Heads, *names: str) -> tuple[jax.Array, ...]:
    """The heads of these names, checked, in their common precision; for methods."""
    if not isinstance(heads, Heads):
        raise TypeError(f"heads must be a dropmax_jax.Heads, but is a {type(heads).__name__}")
    arrays: list[jax.Array] = []
    for name in names:
        value = getattr(heads, name)
        if value is None:
            raise ValueError(f"heads.{name} must be an array [..., K], but is None")
        array = _checks.class_array(f"heads.{name}", value)
        if arrays:
            _checks.same_shape(f"heads.{name}", array, arrays[0].shape, f"heads.{names[0]}")
        arrays.append(array)
    return _checks.promote(*arrays)
