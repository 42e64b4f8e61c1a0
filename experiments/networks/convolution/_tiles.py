"""Convolution, relu and 2x2 max-pooling on the CPU, by tiles of 4x4 outputs.

The batch stands last in memory, so that what is not a matrix product is elementwise over long rows,
and a large one is taken in parts, so that it needs little memory. `_winograd` computes the tiles.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from experiments.networks.convolution._pooling import DEAD, select, unselect
from experiments.networks.convolution._winograd import TILE, convolve, convolve_transpose

# What windows and tiles of a part of a batch may take, transformed: as much as a hundred images do
# in the largest layer of the networks here.
_PART_BYTES = 40_000_000


def forward(images: Array, kernel: Array, bias: Array, padding: int) -> tuple[Array, Array]:
    """Returns the pooled outputs and their argmax, as `_pooling.select`, `[B, H', W', F]` each."""
    plan = _plan(images.shape, kernel.shape, padding)
    full_kernel = _at_least_float32(kernel)
    full_bias = _at_least_float32(bias).reshape(1, 1, -1, 1, 1, 1)

    def part(images: Array) -> tuple[Array, Array]:
        tiles = convolve(_at_least_float32(images), full_kernel)
        pooled, winner = select(_pooling_places(tiles), full_bias)
        return _image(pooled.astype(images.dtype)), _image(winner)

    pooled, winner = lax.map(part, _in_parts(images, plan.parts, plan.images))
    return _whole(pooled, plan.pooled), _whole(winner, plan.pooled)


def backward(
    images: Array, kernel: Array, winner: Array, gradient: Array, padding: int
) -> tuple[Array, Array, Array]:
    """Returns the gradients with respect to images, kernel and bias."""
    plan = _plan(images.shape, kernel.shape, padding)
    full_kernel = _at_least_float32(kernel)

    def part(
        totals: tuple[Array, Array], arrays: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array], Array]:
        images, winner, gradient = arrays
        winner, gradient = _pooled_tiles(winner), _pooled_tiles(_at_least_float32(gradient))
        bias_gradient = jnp.sum(jnp.where(winner == DEAD, 0, gradient), (0, 1, 3, 4, 5))
        images_gradient, kernel_gradient = convolve_transpose(
            _at_least_float32(images), full_kernel, _tiles(unselect(gradient, winner))
        )
        totals = totals[0] + kernel_gradient, totals[1] + bias_gradient
        return totals, images_gradient.astype(images.dtype)

    arrays = (
        _in_parts(images, plan.parts, plan.images),
        _in_parts(winner, plan.parts, plan.pooled),
        _in_parts(gradient, plan.parts, plan.pooled),
    )
    # In shard_map they differ between devices, as the kernel does.
    zeros = jnp.where(False, full_kernel, 0)
    totals, images_gradient = lax.scan(part, (zeros, zeros[0, 0, 0]), arrays)
    kernel_gradient, bias_gradient = (total.astype(kernel.dtype) for total in totals)
    return _whole(images_gradient, plan.images), kernel_gradient, bias_gradient


# Parts of a batch.

# How many zeros to add before and after: for each axis of an array `[C, H, W, B]`.
_Padding = tuple[tuple[int, int], ...]


class _Plan(NamedTuple):
    """In how many parts to take a batch, and what fills up parts and tiles."""

    parts: int
    images: _Padding
    pooled: _Padding


def _plan(images: tuple[int, ...], kernel: tuple[int, ...], padding: int) -> _Plan:
    batch, height, width, channels = images
    size, _, _, features = kernel
    outputs = [side + 2 * padding - size + 1 for side in (height, width)]
    rows, columns = (-(-side // TILE) for side in outputs)
    places = channels * (size + TILE - 1) ** 2
    places += features * (TILE if channels == 1 else size + TILE - 1) ** 2
    num_bytes = 4 * batch * rows * columns * places
    parts = max(1, min(batch, -(-num_bytes // _PART_BYTES)))
    missing = [-side % TILE for side in outputs]
    examples = (0, -batch % parts)
    return _Plan(
        parts,
        ((0, 0), *((padding, padding + count) for count in missing), examples),
        ((0, 0), *((0, count // 2) for count in missing), examples),
    )


def _in_parts(array: Array, parts: int, padding: _Padding) -> Array:
    """`[B, H, W, C]` to `[parts, C, H, W, examples]`."""
    array = jnp.pad(array.transpose(3, 1, 2, 0), padding)
    *sizes, batch = array.shape
    return jnp.moveaxis(array.reshape(*sizes, parts, batch // parts), -2, 0)


def _whole(array: Array, padding: _Padding) -> Array:
    """The inverse of `_in_parts`."""
    parts, *sizes, examples = array.shape
    array = jnp.moveaxis(array, 0, -2).reshape(*sizes, parts * examples)
    inner = tuple(
        slice(before, side - after)
        for side, (before, after) in zip(array.shape, padding, strict=True)
    )
    return array[inner].transpose(3, 1, 2, 0)


def _at_least_float32(array: Array) -> Array:
    return array if array.dtype == jnp.float64 else array.astype(jnp.float32)


# A tile has 2x2 pooling windows of 2x2 places.


def _pooling_places(tiles: Array) -> list[Array]:
    """The outputs at each place of the pooling windows: four `[2, 2, F, rows, columns, B]`."""
    windows = tiles.reshape(2, 2, 2, 2, *tiles.shape[2:])
    return [windows[:, row, :, column] for row in (0, 1) for column in (0, 1)]


def _tiles(places: Sequence[Array]) -> Array:
    """The inverse of `_pooling_places`."""
    rows = [jnp.stack(places[:2], 2), jnp.stack(places[2:], 2)]
    return jnp.stack(rows, 1).reshape(TILE, TILE, *places[0].shape[2:])


def _image(windows: Array) -> Array:
    """Pooled tiles `[2, 2, F, rows, columns, B]` to `[F, 2 * rows, 2 * columns, B]`."""
    _, _, features, rows, columns, batch = windows.shape
    return windows.transpose(2, 3, 0, 4, 1, 5).reshape(features, 2 * rows, 2 * columns, batch)


def _pooled_tiles(image: Array) -> Array:
    """The inverse of `_image`."""
    features, height, width, batch = image.shape
    windows = image.reshape(features, height // 2, 2, width // 2, 2, batch)
    return windows.transpose(2, 4, 0, 1, 3, 5)
