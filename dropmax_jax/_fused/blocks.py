"""Rows in turn, in blocks whose arrays stay in the CPU's caches."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from dropmax_jax import _noise
from dropmax_jax._fused.rows import Result

# Elements of a block: its temporaries stay in a cache, and starting its kernels costs little.
BLOCK = 2**15


def in_blocks(
    rows_of: Callable[..., Result],
    shape: tuple[int, ...],
    key: Array,
    temperature: Array,
    weights: Array,
    *rest: Array,
) -> Result:
    """The loss of heads of a shape `[..., K]`, block after block.

    Args:
        rows_of: Maps temperature, weights, noise, labels and heads of rows to their loss.
        shape: `[..., K]`.
        key: For the noise.
        temperature: As for the loss.
        weights: As for the loss.
        rest: Labels, heads, and what else there is of each row.
    """
    batch, columns = shape[:-1], shape[-1]
    num_rows = math.prod(batch)
    flat = [array.reshape(num_rows, *array.shape[len(batch) :]) for array in rest]
    sources, noise = _noise.logistic_by_row(key, (num_rows, columns), rest[1].dtype)

    def rows(arrays: list[Array]) -> Result:
        source, *others = arrays
        return rows_of(temperature, weights, noise(source), *others)

    arrays = [sources, *flat]
    num_blocks = _num_blocks(num_rows, columns)
    size = num_rows // num_blocks
    if num_blocks == 1:
        result = rows(arrays)
    else:
        # A block takes some rows of each device, so that rows stay on theirs.
        strided = [
            array[: size * num_blocks].reshape(size, num_blocks, *array.shape[1:])
            for array in arrays
        ]
        result = lax.map(
            lambda block: rows(
                [lax.dynamic_index_in_dim(array, block, 1, keepdims=False) for array in strided]
            ),
            jnp.arange(num_blocks),
        )
        result = jax.tree.map(
            lambda array: jnp.moveaxis(array, 0, 1).reshape(-1, *array.shape[2:]), result
        )
        if size * num_blocks < num_rows:
            last = rows([array[size * num_blocks :] for array in arrays])
            result = jax.tree.map(lambda *parts: jnp.concatenate(parts), result, last)
    return jax.tree.map(lambda array: array.reshape(*batch, *array.shape[1:]), result)


def _num_blocks(num_rows: int, columns: int) -> int:
    """How many blocks there are: if possible, a divisor of the rows.

    >>> _num_blocks(4096, 1024), _num_blocks(100, 10), _num_blocks(10_007, 1000)
    (128, 1, 306)
    """
    fewest = -(-num_rows * columns // BLOCK)
    divisors = (number for number in range(fewest, 8 * fewest) if num_rows % number == 0)
    return min(next(divisors, fewest), num_rows)
