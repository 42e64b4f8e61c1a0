"""Convolution, relu and 2x2 max-pooling on the CPU, by matrix products.

Images are cut into windows, from each of which a tile of outputs is computed: by `_direct` if they
have one channel, and by `_fourier` if they have several. Both give a tile's rows and columns in
the order of `_pooling.pooling_order`. A large batch is taken in parts, so that it needs little
memory.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from experiments.networks.convolution import _direct, _fourier
from experiments.networks.convolution._pooling import DEAD, select, unselect
from experiments.networks.convolution._windows import Axes, Axis, cut_windows

# What windows and tiles of a part of a batch may take.
_PART_BYTES = 40_000_000


def forward(images: Array, kernel: Array, bias: Array, padding: int) -> tuple[Array, Array]:
    """Returns the pooled outputs and their argmax, as `_pooling.select`, `[B, H', W', F]` each."""
    plan = _plan(images.shape, kernel.shape, padding)
    full_kernel = _at_least_float32(kernel)
    full_bias = _at_least_float32(bias).reshape(1, 1, -1, 1, 1, 1)

    def part(images: Array) -> tuple[Array, Array]:
        tiles = plan.convolve(_at_least_float32(images), full_kernel)
        pooled, winner = select(_pooling_places(tiles), full_bias)
        return _apart(_image(pooled.astype(images.dtype))), _apart(_image(winner))

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
        winner = _pooled_tiles(winner, plan.axes)
        gradient = _pooled_tiles(_at_least_float32(gradient), plan.axes)
        bias_gradient = jnp.sum(jnp.where(winner == DEAD, 0, gradient), (0, 1, 3, 4, 5))
        _, vjp = jax.vjp(plan.convolve, _at_least_float32(images), full_kernel)
        images_gradient, kernel_gradient = vjp(_tiles(unselect(gradient, winner, (0, 2))))
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


class _Algorithm(NamedTuple):
    """How windows are mapped to tiles."""

    cut: Callable[[int, int, int], Axis]
    floats_per_window: Callable[[Axes, int, int], int]
    convolve: Callable[[Array, Array, Axes], Array]


_DIRECT = _Algorithm(_direct.cut, _direct.floats_per_window, _direct.convolve)
_FOURIER = _Algorithm(_fourier.cut, _fourier.floats_per_window, _fourier.convolve)

# How many zeros to add before and after: for each axis of an array `[H, W, C, B]`.
_Padding = tuple[tuple[int, int], ...]


class _Plan(NamedTuple):
    """How images are cut, in how many parts a batch is taken, and what fills up parts and tiles."""

    convolve: Callable[[Array, Array], Array]
    axes: Axes
    parts: int
    images: _Padding
    pooled: _Padding


def _plan(images: tuple[int, ...], kernel: tuple[int, ...], padding: int) -> _Plan:
    batch, height, width, _ = images
    size, _, channels, features = kernel
    algorithm = _DIRECT if channels == 1 else _FOURIER
    axes = algorithm.cut(height, size, padding), algorithm.cut(width, size, padding)

    def convolve(images: Array, kernel: Array) -> Array:
        return algorithm.convolve(cut_windows(images, axes), kernel, axes)

    floats = axes[0].tiles * axes[1].tiles * algorithm.floats_per_window(axes, channels, features)
    parts = max(1, min(batch, -(-4 * batch * floats // _PART_BYTES)))
    examples = (0, -batch % parts)
    return _Plan(
        convolve,
        axes,
        parts,
        ((0, 0), (0, 0), (0, 0), examples),
        (*((0, axis.missing // 2) for axis in axes), (0, 0), examples),
    )


def _in_parts(array: Array, parts: int, padding: _Padding) -> Array:
    """`[B, H, W, C]` to `[parts, H, W, C, examples]`."""
    array = jnp.pad(array.transpose(1, 2, 3, 0), padding)
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
    return array[inner].transpose(3, 0, 1, 2)


def _at_least_float32(array: Array) -> Array:
    return array if array.dtype == jnp.float64 else array.astype(jnp.float32)


# Pooling windows of 2x2 places in tiles.


def _pooling_places(tiles: Array) -> list[Array]:
    """The outputs at each place of the pooling windows: four `[h / 2, w / 2, F, ...]`."""
    height, width, *sizes = tiles.shape
    places = tiles.reshape(2, height // 2, 2, width // 2, *sizes)
    return [places[row, :, column] for row in (0, 1) for column in (0, 1)]


def _tiles(places: Array) -> Array:
    """The inverse of `_pooling_places`, from `[2, h / 2, 2, w / 2, F, ...]`."""
    _, height, _, width, *sizes = places.shape
    return _apart(places).reshape(2 * height, 2 * width, *sizes)


def _image(tiles: Array) -> Array:
    """Pooled tiles `[h, w, F, rows, columns, B]` to `[h * rows, w * columns, F, B]`."""
    height, width, features, rows, columns, batch = tiles.shape
    image = tiles.transpose(3, 0, 4, 1, 2, 5)
    return image.reshape(height * rows, width * columns, features, batch)


def _pooled_tiles(image: Array, axes: Axes) -> Array:
    """The inverse of `_image`."""
    rows, columns = axes
    image = image.reshape(
        rows.tiles, rows.tile // 2, columns.tiles, columns.tile // 2, *image.shape[2:]
    )
    return image.transpose(1, 3, 4, 0, 2, 5)


def _apart(array: Array) -> Array:
    """Keeps XLA from computing an array in the order of another shape, which is far slower."""
    return lax.optimization_barrier(array)
