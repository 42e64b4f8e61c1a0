"""Logistic noise, as a whole array or any part of it with the same numbers.

References:
    Salmon et al., `Parallel Random Numbers: As Easy as 1, 2, 3
    <https://doi.org/10.1145/2063384.2063405>`_, 2011 (Threefry).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding


def logistic(
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: jnp.dtype,
    sharding: NamedSharding | None = None,
) -> jax.Array:
    """Standard logistic noise, float32 or float64, drawn where it is used."""
    return _from_uniform(jax.random.uniform(key, shape, dtype, out_sharding=sharding))


def logistic_in_place(
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: jnp.dtype,
    place: jax.Array | int = 0,
    count: int = 1,
) -> jax.Array:
    """`logistic` of a share of the columns, computed where it is used: see `logistic_at`.

    Args:
        key: A random key.
        shape: `[rows, columns]`, of the share that is here.
        dtype: float32 or float64.
        place: Which share of the columns is here.
        count: How many shares there are. Together they have the numbers of one; with generators
            other than Threefry they have others.
    """
    rows, columns = shape
    if not _counts_elements(key):
        own = key if count == 1 else jax.random.fold_in(key, place)
        return logistic(own, shape, dtype)
    here = jnp.arange(columns, dtype=jnp.uint32)
    if count > 1:
        here += jnp.uint32(place) * np.uint32(columns)
    whole, every_row = (rows, columns * count), jnp.arange(rows, dtype=jnp.uint32)
    return logistic_at(threefry_key(key), whole, dtype, every_row, here)


def threefry_key(key: jax.Array) -> jax.Array:
    """The two words, uint32, of a Threefry key, or of one drawn from a key of another generator."""
    return jax.random.key_data(key) if _counts_elements(key) else jax.random.bits(key, (2,))


def logistic_at(
    words: jax.Array,
    shape: tuple[int, int],
    dtype: jnp.dtype,
    rows: jax.Array,
    columns: jax.Array,
) -> jax.Array:
    """Any part of `logistic`, with the same numbers.

    On CPU, jax.random loops over the rounds of Threefry and passes through memory in each. Written
    out, they are one expression, computed where the noise is used, in less than half the time.

    Args:
        words: Of `threefry_key`.
        shape: `[rows, columns]` of the whole.
        dtype: float32 or float64.
        rows: Which rows, uint32 `[...]`.
        columns: Which columns of them, uint32 `[k]`.

    Returns:
        The noise `[..., k]`.
    """
    # What jax.random.uniform does: the count of the number is hashed, and the first bits of the
    # hash are the mantissa of a number in [1, 2).
    rows, columns = rows[..., None], lax.expand_dims(columns, range(rows.ndim))
    low = rows * np.uint32(shape[1]) + columns
    high = jnp.zeros_like(low)
    # The number of rows may be a symbol.
    if not isinstance(shape[0], int) or math.prod(shape) > 2**32:
        high += _high_product(rows, np.uint32(shape[1])) + (low < columns)
    first, second = _threefry(words, high, low)
    if dtype == jnp.float32:
        mantissa = ((first ^ second) >> 9) | np.uint32(0x3F800000)
        return _from_uniform(lax.bitcast_convert_type(mantissa, jnp.float32) - 1.0)
    bits = (first.astype(jnp.uint64) << 32) | second.astype(jnp.uint64)
    wide = (bits >> 12) | np.uint64(0x3FF0000000000000)
    return _from_uniform(lax.bitcast_convert_type(wide, jnp.float64) - 1.0)


def _counts_elements(key: jax.Array) -> bool:
    """Whether jax.random hashes the count of each number, and by Threefry."""
    # Only newer versions of jax give this setting a type.
    counts: bool = jax.config.jax_threefry_partitionable  # type: ignore[attr-defined, unused-ignore]
    return counts and jax.random.key_impl(key) == "threefry2x32"


def _high_product(x: jax.Array, y: np.uint32) -> jax.Array:
    """The upper 32 bits of the product of two uint32."""
    (x_high, x_low), (y_high, y_low) = ((each >> 16, each & np.uint32(0xFFFF)) for each in (x, y))
    middle = x_high * y_low + ((x_low * y_low) >> 16)
    rest = x_low * y_high + (middle & np.uint32(0xFFFF))
    return x_high * y_high + (middle >> 16) + (rest >> 16)


def _from_uniform(uniform: jax.Array) -> jax.Array:
    # jax.random.uniform draws multiples of eps from [0, 1); half a step further they are symmetric
    # about 1/2 and never 0 or 1. (jax.random.logistic maps 0 to log of the smallest float: in
    # float32, one draw in eight million is -87 where the distribution has about -17.)
    uniform += float(np.finfo(uniform.dtype).eps) / 2
    return jnp.log(uniform / (1.0 - uniform))


def _threefry(words: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threefry-2x32 with 20 rounds, of uint32."""
    keys = (words[0], words[1], words[0] ^ words[1] ^ np.uint32(0x1BD11BDA))
    x, y = x + keys[0], y + keys[1]
    for group in range(5):
        for distance in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x += y
            y = ((y << distance) | (y >> (32 - distance))) ^ x
        x += keys[(group + 1) % 3]
        y += keys[(group + 2) % 3] + np.uint32(group + 1)
    return x, y
