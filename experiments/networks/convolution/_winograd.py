"""Convolutions in tiles of 4x4 outputs, by matrix products.

im2col writes every pixel k x k times. Here each tile is computed from its window of n x n pixels,
n = k + 3, so that a pixel is written (n / 4)² times.

With several channels the products are those of minimal filtering (Winograd; A. Lavin and S. Gray,
"Fast Algorithms for Convolutional Neural Networks", 2016). Window and kernel are transformed by
small constant matrices and multiplied place by place, each place summing over channels; the result
is transformed back:

    tile = A [(G kernel Gᵀ) * (B window Bᵀ)] Aᵀ

For k = 5 this multiplies 4 times per output instead of 25. Its rounding errors are some ten times
those of a plain sum, 2e-6 of the outputs' standard deviation in float32.

With a single channel there is nothing to sum over: each window is multiplied by the matrix that
maps it to its tile.

Images are `[C, H, W, B]` here, and windows and tiles have two axes for the place before these:
`[n, n, C, rows, columns, B]` and `[4, 4, F, rows, columns, B]`. Kernels are `[k, k, C, F]`.
"""

import functools
import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

TILE = 4
KERNEL_SIZES = (1, 3, 5)
# Minimal filtering evaluates polynomials here and at infinity. Powers of two round little.
_POINTS = (0, 1, -1, 2, -2, 0.5, -0.5)


def convolve(images: Array, kernel: Array) -> Array:
    """Convolves without padding images that have `4 * rows + k - 1` rows and so on: the tiles."""
    if len(images) == 1:
        return _map_windows(images, kernel)
    windows = _transform_images(images, len(kernel))
    products = jnp.einsum("pfc,pct->pft", _transform_kernel(kernel), _flat(windows))
    side = len(windows)
    products = products.reshape(side, side, kernel.shape[-1], *windows.shape[3:])
    return _map_places(_matrices(len(kernel)).tile, products)


def convolve_transpose(images: Array, kernel: Array, tiles: Array) -> tuple[Array, Array]:
    """The gradients with respect to images and kernel from that with respect to the tiles."""
    if len(images) == 1:
        _, vjp = jax.vjp(_map_windows, images, kernel)
        images_gradient, kernel_gradient = vjp(tiles)
        return images_gradient, kernel_gradient
    # The images' part by hand: XLA makes more passes over what automatic differentiation gives.
    windows = _transform_images(images, len(kernel))
    weights, kernel_vjp = jax.vjp(_transform_kernel, kernel)
    products = _flat(_map_places(_matrices(len(kernel)).tile.T, tiles))
    windows_gradient = jnp.einsum("pfc,pft->pct", weights, products).reshape(windows.shape)
    (kernel_gradient,) = kernel_vjp(jnp.einsum("pft,pct->pfc", products, _flat(windows)))
    return _transform_images_transpose(windows_gradient, len(kernel)), kernel_gradient


# One channel.


def _map_windows(images: Array, kernel: Array) -> Array:
    """Multiplies each window by the matrix that maps it to its tile."""
    size, _, _, features = kernel.shape
    side = size + TILE - 1
    windows = jnp.stack(
        [place for row in _places(images, 1, side) for place in _places(row, 2, side)]
    )
    shifts = [(shift, TILE - 1 - shift) for shift in range(TILE)]
    matrix = jnp.stack(
        [jnp.pad(kernel, (row, column, (0, 0), (0, 0))) for row in shifts for column in shifts]
    )
    matrix = jnp.moveaxis(matrix, -1, 1).reshape(TILE * TILE * features, -1)
    tiles = jnp.tensordot(matrix, windows.reshape(matrix.shape[1], *windows.shape[2:]), 1)
    return tiles.reshape(TILE, TILE, features, *windows.shape[2:])


# Several channels: minimal filtering.


class _Matrices(NamedTuple):
    """Of one dimension: A `[4, n]`, G `[n, k]` and B `[n, n]`."""

    tile: np.ndarray
    kernel: np.ndarray
    window: np.ndarray


def _matrices(size: int) -> _Matrices:
    """The algorithm of Toom and Cook for four outputs of a kernel of `size`."""
    points = _POINTS[: size + TILE - 2]
    others = [[other for other in points if other != point] for point in points]
    scale = [np.prod(np.subtract(point, rest)) for point, rest in zip(points, others, strict=True)]
    tile = np.vander(points, TILE, increasing=True)
    kernel = np.vander(points, size, increasing=True) / np.array(scale)[:, None]
    window = [[*np.poly(rest)[::-1], 0] for rest in others]
    # The last row of each stands for infinity, where a polynomial is its highest coefficient.
    return _Matrices(
        np.vstack([tile, np.eye(TILE)[-1]]).T,
        np.vstack([kernel, np.eye(size)[-1]]),
        np.vstack([window, np.poly(points)[::-1]]),
    )


def _transform_images(images: Array, size: int) -> Array:
    matrix = _matrices(size).window
    rows = jnp.stack(_combine(matrix, _places(images, 1, len(matrix))))
    return jnp.stack(_combine(matrix, _places(rows, 3, len(matrix))), 1)


def _transform_images_transpose(windows: Array, size: int) -> Array:
    matrix = _matrices(size).window.T
    rows = _overlap(_combine(matrix, [windows[:, i] for i in range(len(matrix))]), 3)
    return _overlap(_combine(matrix, list(rows)), 1)


def _transform_kernel(kernel: Array) -> Array:
    """`[n * n, F, C]`."""
    matrix = _matrices(len(kernel)).kernel
    both = np.kron(matrix, matrix).astype(kernel.dtype)
    return jnp.tensordot(both, kernel.reshape(-1, *kernel.shape[2:]).swapaxes(1, 2), 1)


def _map_places(matrix: np.ndarray, places: Array) -> Array:
    """Multiplies the first two axes, those of a place, by the matrix."""
    rows = jnp.stack(_combine(matrix, list(places)))
    return jnp.stack(_combine(matrix, [rows[:, i] for i in range(rows.shape[1])]), 1)


def _flat(places: Array) -> Array:
    """`[n, n, C, rows, columns, B]` to `[n * n, C, rows * columns * B]`."""
    side, _, channels, *sizes = places.shape
    return places.reshape(side * side, channels, math.prod(sizes))


def _combine(matrix: np.ndarray, arrays: Sequence[Array]) -> list[Array]:
    """Each row's sum of arrays. Without the zeros: half of the matrices' numbers."""

    def combination(row: list[float]) -> Array:
        terms = [
            array if factor == 1 else factor * array
            for factor, array in zip(row, arrays, strict=True)
            if factor
        ]
        return functools.reduce(operator.add, terms)

    return [combination(row) for row in matrix.tolist()]


# Windows, along one axis.


def _places(array: Array, axis: int, side: int) -> list[Array]:
    """What stands at each of `side` places in the windows of all tiles."""
    last = array.shape[axis] - side
    return [lax.slice_in_dim(array, place, last + place + 1, TILE, axis) for place in range(side)]


def _overlap(places: Sequence[Array], axis: int) -> Array:
    """The transpose of `_places`: adds up what windows have at the pixels that they share."""

    def shifted(array: Array, tiles: int) -> Array:
        widths = [(0, 0)] * array.ndim
        widths[axis] = tiles, 1 - tiles
        return jnp.pad(array, widths)

    # Every fourth pixel is at one place of a tile, and perhaps at a place past the tile before.
    pixels = [
        functools.reduce(
            operator.add, [shifted(array, tiles) for tiles, array in enumerate(places[i::TILE])]
        )
        for i in range(TILE)
    ]
    shape = list(pixels[0].shape)
    shape[axis] *= TILE
    image = jnp.stack(pixels, axis + 1).reshape(shape)
    return lax.slice_in_dim(image, 0, shape[axis] + len(places) - 2 * TILE, axis=axis)
