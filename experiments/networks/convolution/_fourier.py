"""Convolutions of several channels, by Fourier transforms that are matrix products.

A convolution multiplies spectra (M. Mathieu, M. Henaff and Y. LeCun, "Fast Training of
Convolutional Networks through FFTs", 2014). At each frequency this is one matrix product, which
sums over channels:

    tile = inverse transform(conj(transform(kernel)) transform(window))

A window is small, so products with constant matrices transform it as fast as any other way: first
its rows, then its columns. Pixels are real, so the first half of the rows' frequencies determines
the others.

Spectra are `[p, 2C, N]`: frequencies, then the real parts of all channels and their imaginary
parts, then windows. XLA:CPU is far quicker at products with a batch axis, so all have one.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.networks.convolution._pooling import pooling_order
from experiments.networks.convolution._windows import Axes, Axis, cut_axis

_LARGEST_TILE = 28


def cut(side: int, size: int, padding: int) -> Axis:
    """Cuts one axis, as `cut_axis`. A single window has its padding as margin, without memory."""
    axis = cut_axis(side, size, padding, _LARGEST_TILE)
    single = axis._replace(window=side, padding=(0, 0), margin=padding)
    return single if axis.tiles == 1 else axis


def floats_per_window(axes: Axes, channels: int, features: int) -> int:
    """How many numbers the spectra of a window and its tile take."""
    rows, columns = axes
    return 2 * _half(rows) * _period(columns) * (channels + features)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(windows: Array, kernel: Array, axes: Axes) -> Array:
    """Maps windows to tiles."""
    return _forward(windows, kernel, axes)[0]


def _forward(windows: Array, kernel: Array, axes: Axes) -> tuple[Array, tuple[Array, Array]]:
    matrices = _matrices(axes, len(kernel), windows.dtype.name)
    spectra = _to_spectra(matrices.windows, windows)
    products = jnp.einsum("pfc,pcn->pfn", _weights(kernel, matrices.kernel), spectra)
    tiles = _from_spectra(matrices.tiles, products)
    return tiles.reshape(*tiles.shape[:3], *windows.shape[3:]), (spectra, kernel)


def _backward(axes: Axes, residuals: tuple[Array, Array], tiles: Array) -> tuple[Array, Array]:
    spectra, kernel = residuals
    matrices = _matrices(axes, len(kernel), tiles.dtype.name)
    gradients = _to_spectra(_transposed(matrices.tiles), tiles)
    # XLA:CPU is slow at products that sum over the first axis of both, so weights are made anew.
    weights = _weights(kernel.swapaxes(2, 3), matrices.kernel.conj())
    products = jnp.einsum("pcf,pfn->pcn", weights, gradients)
    windows = _from_spectra(_transposed(matrices.windows), products)
    _, vjp = jax.vjp(lambda kernel: _weights(kernel, matrices.kernel), kernel)
    (kernel_gradient,) = vjp(jnp.einsum("pfn,pcn->pfc", gradients, spectra))
    return windows.reshape(*windows.shape[:3], *tiles.shape[3:]), kernel_gradient


convolve.defvjp(_forward, _backward)


# Transforms.

# The matrices of rows and columns.
_Pair = tuple[np.ndarray, np.ndarray]


class _Matrices(NamedTuple):
    """From windows to spectra, from spectra to tiles, and the kernel's conjugate transform."""

    windows: _Pair
    tiles: _Pair
    kernel: np.ndarray


@functools.cache
def _matrices(axes: Axes, size: int, dtype: str) -> _Matrices:
    rows, columns = axes
    half = _half(rows)
    window_rows, window_columns = (
        _waves(axis, axis.margin + np.arange(axis.window)) for axis in axes
    )
    tile_rows, tile_columns = (
        _waves(axis, pooling_order(axis.tile)).conj().T / _period(axis) for axis in axes
    )
    # A frequency of rows stands for its mirror image too, if that is another one.
    twice = np.where(2 * np.arange(half) % _period(rows), 2, 1)
    tile_rows = twice * tile_rows[:, :half]
    kernel_rows, kernel_columns = (_waves(axis, np.arange(size)).conj() for axis in axes)
    # Pixels are real; the rows' frequencies, and all of the columns, are pairs of numbers.
    to_rows = np.stack([window_rows.real, window_rows.imag], 1)[:half]
    from_rows = np.stack([tile_rows.real, -tile_rows.imag], -1)
    to_columns = _blocks(window_columns).transpose(2, 0, 1, 3)
    from_columns = _blocks(tile_columns).transpose(0, 2, 3, 1)

    def flat(matrix: np.ndarray, columns: int, batch: int) -> np.ndarray:
        return np.repeat(matrix.reshape(1, -1, columns).astype(dtype), batch, 0)

    return _Matrices(
        (flat(to_rows, rows.window, 1), flat(to_columns, 2 * columns.window, half)),
        (flat(from_rows, 2 * half, 1), flat(from_columns, 2 * _period(columns), half)),
        np.kron(kernel_rows[:half], kernel_columns),
    )


def _to_spectra(matrices: _Pair, places: Array) -> Array:
    """`[h, w, C, ...]` to `[p, 2C, N]`."""
    rows, columns = matrices
    height, width, channels, *windows = places.shape
    half, frequencies, _ = columns.shape
    number = math.prod(windows)
    array = _multiply(rows, places.reshape(1, height, width * channels * number))
    array = _multiply(columns, array.reshape(half, 2 * width, channels * number))
    return array.reshape(half * frequencies // 2, 2 * channels, number)


def _from_spectra(matrices: _Pair, spectra: Array) -> Array:
    """`[p, 2C, N]` to `[h, w, C, N]`."""
    rows, columns = matrices
    _, channels, number = spectra.shape
    half, width, frequencies = columns.shape
    array = _multiply(columns, spectra.reshape(half, frequencies, channels * number // 2))
    array = _multiply(rows, array.reshape(1, 2 * half, width * channels * number // 4))
    return array.reshape(rows.shape[1], width // 2, channels // 2, number)


def _multiply(matrix: np.ndarray, array: Array) -> Array:
    return jnp.einsum("bij,bjn->bin", matrix, array)


def _transposed(matrices: _Pair) -> _Pair:
    rows, columns = matrices
    return rows.swapaxes(1, 2), columns.swapaxes(1, 2)


def _weights(kernel: Array, waves: np.ndarray) -> Array:
    """Complex products with a kernel's spectra, as real ones: `[k, k, C, F]` to `[p, 2F, 2C]`."""
    size, _, *channels = kernel.swapaxes(2, 3).shape
    flat = kernel.swapaxes(2, 3).reshape(1, size * size, math.prod(channels))
    real, imaginary = (
        _multiply(part[None].astype(kernel.dtype), flat).reshape(len(waves), *channels)
        for part in (waves.real, waves.imag)
    )
    blocks = jnp.stack([jnp.stack([real, -imaginary], 2), jnp.stack([imaginary, real], 2)], 1)
    return blocks.reshape(len(waves), *(2 * count for count in channels))


def _blocks(matrix: np.ndarray) -> np.ndarray:
    """`[2, 2, *matrix.shape]`: a complex matrix as one of real and imaginary parts."""
    return np.array([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])


def _waves(axis: Axis, places: np.ndarray) -> np.ndarray:
    """The matrix of the discrete Fourier transform, for values at some places."""
    period = _period(axis)
    return np.exp(-2j * np.pi * np.outer(np.arange(period), places) / period)


def _period(axis: Axis) -> int:
    """The length of a transform. The zeros after a window share their places with its margin."""
    return axis.margin + axis.window


def _half(axis: Axis) -> int:
    return _period(axis) // 2 + 1
