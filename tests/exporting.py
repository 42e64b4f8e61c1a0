"""Programs exported for any number of examples: a symbol stands for the batch."""

from typing import Any

import chex
import jax
import jax.export

PLATFORMS = ["cpu", "cuda", "tpu"]


def assert_exports(function: Any, *args: Any) -> None:
    """The function gives the same results if exported for any length of the inputs' first axis."""
    (batch,) = jax.export.symbolic_shape("batch")

    def any_length(array: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, *array.shape[1:]), array.dtype)

    jitted = jax.jit(function)
    exported = jax.export.export(jitted, platforms=PLATFORMS)(*jax.tree.map(any_length, args))
    chex.assert_trees_all_close(exported.call(*args), jitted(*args), rtol=1e-5, atol=1e-5)
