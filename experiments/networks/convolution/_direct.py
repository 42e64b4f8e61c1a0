"""Convolutions of one channel: each window is multiplied by the matrix that maps it to its tile.

There are no channels to sum over, so spectra as in `_fourier` gain nothing. im2col writes every
pixel k x k times. A window for 4x4 outputs has k + 3 rows, so a pixel is written ((k + 3) / 4)²
times.
"""

import math

import jax.numpy as jnp
from jax import Array

from experiments.networks.convolution._pooling import pooling_order
from experiments.networks.convolution._windows import Axes, Axis, cut_axis

_LARGEST_TILE = 4


def cut(side: int, size: int, padding: int) -> Axis:
    """Cuts one axis, as `cut_axis`."""
    return cut_axis(side, size, padding, _LARGEST_TILE)


def floats_per_window(axes: Axes, channels: int, features: int) -> int:
    """How many numbers a window and its tile take."""
    rows, columns = axes
    return channels * rows.window * columns.window + features * rows.tile * columns.tile


def convolve(windows: Array, kernel: Array, axes: Axes) -> Array:
    """Maps windows to tiles."""
    rows, columns = (
        [(place, axis.tile - 1 - place) for place in pooling_order(axis.tile)] for axis in axes
    )
    matrix = jnp.stack(
        [jnp.pad(kernel, (row, column, (0, 0), (0, 0))) for row in rows for column in columns]
    )
    features = kernel.shape[-1]
    matrix = jnp.moveaxis(matrix, -1, 1).reshape(-1, math.prod(windows.shape[:3]))
    tiles = jnp.tensordot(matrix, windows.reshape(matrix.shape[1], *windows.shape[3:]), 1)
    return tiles.reshape(len(rows), len(columns), features, *windows.shape[3:])
