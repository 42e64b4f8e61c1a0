"""Where arrays lie, on a mesh of explicit axes."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec


def explicit(array: jax.Array) -> NamedSharding | None:
    """Returns the sharding of an array on a mesh of explicit axes, None on others."""
    sharding = jax.typeof(array).sharding
    return sharding if any(sharding.spec) else None


def whole_classes(logits: jax.Array, reason: str) -> None:
    """Raises ValueError if an explicit mesh spreads the classes of an example over devices."""
    sharding = explicit(logits)
    if sharding is not None and sharding.spec[-1] is not None:
        raise ValueError(
            f"{reason}, so all classes of an example must be on one device, but logits have the "
            f"sharding {sharding.spec}: reshard them with None for the last axis"
        )


def like(array: jax.Array, other: jax.Array) -> jax.Array:
    """Returns an array spread as the leading axes of another, on a mesh of explicit axes."""
    sharding = explicit(other)
    if sharding is None:
        return array
    spec = PartitionSpec(*sharding.spec[: array.ndim])
    resharded: jax.Array = jax.sharding.reshard(array, NamedSharding(sharding.mesh, spec))
    return resharded


def together(array: jax.Array) -> jax.Array:
    """Returns an array with every number on every device, on a mesh of explicit axes."""
    sharding = explicit(array)
    if sharding is None:
        return array
    gathered: jax.Array = jax.sharding.reshard(
        array, NamedSharding(sharding.mesh, PartitionSpec(*[None] * array.ndim))
    )
    return gathered


def by_compiler(function: Callable[..., Any], rows: jax.Array, *args: Any) -> Any:
    """Calls a function whose results `[N, ...]` lie as the rows `[N, ...]` do.

    On a mesh of explicit axes, XLA decides where arrays within lie, as on one of automatic axes.
    """
    found = [sharding for leaf in jax.tree.leaves(args) if (sharding := explicit(leaf))]
    if not found:
        return function(*args)
    spec = jax.typeof(rows).sharding.spec
    out = NamedSharding(found[0].mesh, PartitionSpec(spec[0] if spec else None))
    return jax.sharding.auto_axes(function, out_sharding=out)(*args)
