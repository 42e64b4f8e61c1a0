"""The check of a hyper-parameter that is a share of the classes, or a probability above 0."""

import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def fraction(name: str, value: ArrayLike, dtype: Any) -> jax.Array:
    """Return a scalar in (0, 1] in `dtype`; numbers are checked, JAX arrays cannot be."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool) or not isinstance(value, numbers.Real | jax.Array | np.ndarray):
        raise TypeError(f"{name} must be a number, but is {value!r}")
    if isinstance(value, numbers.Real) and not 0.0 < value <= 1.0:
        raise ValueError(f"{name} must be above 0 and at most 1, but is {value}")
    array = jnp.asarray(value)
    if array.shape != ():
        raise ValueError(f"{name} must be a scalar, but has shape {array.shape}")
    return array.astype(dtype)
