"""The devices of a run, and the one place where `jax.pmap` is called.

A pmapped function takes and returns this process's part: leaves `[local devices, ...]`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

AXIS = "devices"

pmap: Callable[..., Callable[..., Any]] = functools.partial(jax.pmap, axis_name=AXIS)
"""`jax.pmap` over all devices of all processes."""


def local() -> slice:
    """The places of this process's devices among all devices."""
    first = jax.process_index() * jax.local_device_count()
    return slice(first, first + jax.local_device_count())


def put(tree: Any) -> Any:
    """Puts NumPy arrays `[local devices, ...]` on this process's devices, a row each."""
    return _identity(tree)


@pmap
def _identity(tree: Any) -> Any:
    return tree


def replicate(tree: Any) -> Any:
    """Puts the same values on every local device: leaves `[local devices, ...]`."""
    num_devices = jax.local_device_count()
    copies = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (num_devices, *leaf.shape)), tree)
    return put(copies)


def unreplicate(tree: Any) -> Any:
    """The first local device's values, which all devices share, as NumPy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_shards[0].data)[0], tree)
