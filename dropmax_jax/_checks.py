"""Checks of what users pass in, made while tracing, so that compiled code pays nothing for them.

Every message says which argument, what was expected of it and what it is.
"""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from dropmax_jax import _sharding

# The sizes of old-style keys: 2 for Threefry, 4 for the two rbg generators.
_OLD_KEY_SIZES = (2, 4)


def float_array(name: str, value: ArrayLike) -> jax.Array:
    """Returns `value` as an array, or raises TypeError if it does not hold real numbers."""
    array = _as_array(name, value, "a floating-point array")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be a floating-point array, but has dtype {array.dtype}")
    return array


def class_array(name: str, value: ArrayLike) -> jax.Array:
    """Returns `value` as a floating-point array whose last axis holds at least one class."""
    array = float_array(name, value)
    if array.ndim == 0:
        raise ValueError(f"{name} must have shape [..., K], classes last, but is a scalar")
    if array.shape[-1] == 0:
        raise ValueError(f"{name} must have at least one class, but has shape {array.shape}")
    return array


def same_shape(name: str, array: jax.Array, shape: tuple[int, ...], owner: str) -> None:
    """Raises ValueError unless `array` has `shape`, the shape of the argument `owner`."""
    if array.shape != shape:
        raise ValueError(
            f"{name} must have shape {shape}, that of {owner}, but has shape {array.shape}"
        )


def promote(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the arrays in float64 if one of them is, else in float32."""
    double = any(array.dtype == jnp.float64 for array in arrays)
    dtype = jnp.float64 if double else jnp.float32
    return tuple(array.astype(dtype) for array in arrays)


# A class of this logit, or less, does not exist: its probability is 0 beside any other.
NO_CLASS = -1e30


def bounded_below(logits: jax.Array) -> jax.Array:
    """Returns logits of which none is minus infinity: that of a class that does not exist."""
    return jnp.maximum(logits, NO_CLASS)


def exists(logits: jax.Array) -> jax.Array:
    """Returns which classes exist, booleans."""
    return logits > NO_CLASS


def target_mask(labels: ArrayLike, logits: jax.Array, owner: str) -> jax.Array:
    """Returns the booleans `[..., K]` that say which class is each example's label.

    A comparison rather than a one-hot array of floats: XLA fuses it into whatever reads it.
    """
    array = _sharding.like(label_array(labels, logits.shape, owner), logits)
    # In a dtype of its own a uint8 could not count 300 classes.
    dtype = array.dtype if array.dtype.itemsize >= 4 else jnp.int32
    classes = lax.broadcasted_iota(
        dtype, logits.shape, logits.ndim - 1, out_sharding=_sharding.explicit(logits)
    )
    return classes == array[..., None].astype(dtype)


def target(labels: ArrayLike, logits: jax.Array, owner: str) -> jax.Array:
    """Returns `target_mask` of integer labels, and probabilities `[..., K]` as they are."""
    array = soft_labels(labels, logits.shape, owner)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return _sharding.like(array, logits)
    return target_mask(array, logits, owner)


def soft_labels(labels: ArrayLike, shape: tuple[int, ...], owner: str) -> jax.Array:
    """Returns `label_array`, or probabilities `[..., K]`."""
    array = _as_array("labels", labels, "an integer array, or probabilities")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return label_array(array, shape, owner)
    if array.shape != shape:
        raise ValueError(
            f"labels must be integers or have shape {shape}, that of {owner}, to be probabilities, "
            f"but are {array.dtype} of shape {array.shape}"
        )
    return array


def label_array(
    labels: ArrayLike, shape: tuple[int, ...], owner: str, last: str = "class"
) -> jax.Array:
    """Returns `labels` as integers, or raises unless they are, one for each example."""
    array = _as_array("labels", labels, "an integer array")
    if array.dtype == jnp.bool_ and shape[-1] == 2:
        array = array.astype(jnp.int32)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"labels must be an integer array, but has dtype {array.dtype}")
    if array.shape != shape[:-1]:
        raise ValueError(
            f"labels must have shape {shape[:-1]}, that of {owner} without the {last} axis, "
            f"but has shape {array.shape}"
        )
    return array


def int_array(name: str, value: ArrayLike) -> jax.Array:
    """Returns `value` as an array, or raises TypeError if it does not hold integers."""
    array = _as_array(name, value, "an integer array")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name} must be an integer array, but has dtype {array.dtype}")
    return array


def bool_array(name: str, value: ArrayLike) -> jax.Array:
    """Returns `value` as an array, or raises TypeError if it does not hold booleans."""
    array = _as_array(name, value, "a boolean array")
    if array.dtype != jnp.bool_:
        raise TypeError(f"{name} must be a boolean array, but has dtype {array.dtype}")
    return array


def random_key(key: Any) -> None:
    """Raises TypeError unless `key` is a random key, new style or old, and ValueError if many."""
    expected = "key must be a random key, such as jax.random.key(0)"
    if not isinstance(key, jax.Array | np.ndarray):
        raise TypeError(f"{expected}, but is {describe(key)}")
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        shape: tuple[int, ...] = key.shape
    elif key.dtype == jnp.uint32 and key.ndim > 0 and key.shape[-1] in _OLD_KEY_SIZES:
        shape = key.shape[:-1]
    else:
        raise TypeError(f"{expected}, but has dtype {key.dtype} and shape {key.shape}")
    if shape:
        raise ValueError(f"key must be one random key, but holds keys in shape {shape}")


def positive(name: str, value: ArrayLike, dtype: Any) -> jax.Array:
    """Returns a positive scalar in `dtype`; numbers are checked, JAX arrays cannot be."""
    if isinstance(value, numbers.Real | np.ndarray) and np.ndim(value) == 0:
        number, limits = real(name, value), np.finfo(dtype)
        if not float(limits.tiny) <= number <= float(limits.max):
            raise ValueError(
                f"{name} must be positive and finite (from {float(limits.tiny):.3g} to "
                f"{float(limits.max):.3g}), but is {number}"
            )
        return jnp.asarray(number, dtype)
    return scalar(name, value, dtype)


def scalar(name: str, value: ArrayLike, dtype: Any) -> jax.Array:
    """Returns a real scalar in `dtype`."""
    array = _as_array(name, value, "a number")
    if array.shape != ():
        raise ValueError(f"{name} must be a scalar, but has shape {array.shape}")
    if not jnp.issubdtype(array.dtype, jnp.number) or jnp.iscomplexobj(array):
        raise TypeError(f"{name} must be a real number, but has dtype {array.dtype}")
    return array.astype(dtype)


def fraction(name: str, value: ArrayLike, dtype: Any) -> jax.Array:
    """Returns a scalar in (0, 1] in `dtype`; numbers are checked, JAX arrays cannot be."""
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


def log_epsilon(value: float) -> float:
    """Returns the log of ε in Python's double precision, minus infinity for 0.

    Taken here and not by jnp.log, since 1e-20 is below the range of float16, and 1e-50 of float32.
    """
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            "epsilon must be a Python number, but is traced: make it static, as in "
            "jax.jit(f, static_argnames='epsilon')"
        )
    number = real("epsilon", value)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"epsilon must be at least 0 and finite, but is {number}")
    return math.log(number) if number > 0.0 else -math.inf


def axis(name: str, value: str | None) -> None:
    """Raises ValueError if `value` is no axis of a `shard_map` around this call."""
    if value is None:
        return
    try:
        lax.axis_size(value)
    except (NameError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be an axis of the jax.shard_map around this call, but is {value!r}"
        ) from error


def positive_int(name: str, value: int) -> int:
    """Returns `value`, or raises unless it is a Python or NumPy integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a Python integer, but is {describe(value)}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, but is {value}")
    return int(value)


def _as_array(name: str, value: Any, expected: str) -> jax.Array:
    if value is None:
        raise TypeError(f"{name} must be {expected}, but is None")
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError, SyntaxError) as error:  # as NumPy of ","
        raise TypeError(f"{name} must be {expected}, but is {describe(value)}") from error


def real(name: str, value: Any) -> float:
    """Returns a real number of Python or NumPy as a float."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a Python number, but is {describe(value)}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{name} must be finite, but is too large for a float") from error


def describe(value: Any) -> str:
    """What a message says that a value is."""
    if isinstance(value, jax.Array):
        return f"a JAX array of dtype {value.dtype} and shape {value.shape}"
    if value is None or isinstance(value, bool | numbers.Number | str):
        return repr(value)
    return f"a {type(value).__name__}"


def example_mask(where: ArrayLike | None, shape: tuple[int, ...], owner: str) -> jax.Array | None:
    """Returns `where` in the examples' `shape`, that of `owner`; None if all examples count."""
    if where is None:
        return None
    array = bool_array("where", where)
    try:
        return jnp.broadcast_to(array, shape)
    except ValueError as error:
        raise ValueError(
            f"where must have shape {shape}, that of {owner}, or one that broadcasts to it, "
            f"but has shape {array.shape}"
        ) from error


# What rounding may add to a log-probability of 0.
_LARGEST_LOG_PROB = 1e-3


def log_probabilities(name: str, value: ArrayLike, where: ArrayLike | None = None) -> None:
    """Raises ValueError if `value` holds what cannot be log-probabilities where examples count.

    Only known values are checked: NumPy's, and JAX's unless they are traced or partly elsewhere.
    """
    array, mask = _known(value), _known(np.True_ if where is None else where)
    if array is None or mask is None:
        return
    with np.errstate(invalid="ignore"):
        # Half precision rounds the difference of a logit and a logsumexp that much.
        largest = _LARGEST_LOG_PROB if array.dtype.itemsize > 2 else 0.1
        is_refused = (array > largest) & mask[..., None]
    if is_refused.any():
        raise ValueError(
            f"{name} must be log-probabilities, at most 0, but holds "
            f"{float(array[is_refused].max()):.3g}: pass jax.nn.log_softmax(logits)"
        )


def _known(value: ArrayLike) -> np.ndarray | None:
    # As jnp.asarray would turn it into a traced array under jit.
    if isinstance(value, np.ndarray | np.bool_):
        return np.asarray(value)
    array = jnp.asarray(value)
    if isinstance(array, jax.core.Tracer) or not array.is_fully_addressable:
        return None
    known: np.ndarray = jax.device_get(array)
    return known
