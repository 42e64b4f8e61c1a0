"""Convolution, relu and 2x2 max-pooling as one differentiable function, quick on every platform.

On GPU and TPU the backend's own convolution is used. On CPU, where XLA's convolutions are slow
inside loops, `_tiles` computes the same, but for rounding, by matrix products.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from experiments.networks.convolution import _tiles
from experiments.networks.convolution._pooling import DEAD, select, unselect


def conv_relu_pool(images: Array, kernel: Array, bias: Array, padding: int = 0) -> Array:
    """Convolves, adds the bias, applies relu, max-pools 2x2 with stride 2.

    In a pooling window the maximum alone gets the gradient; of equal ones the first in row-major
    order, but for rounding. Reverse-mode differentiation only.

    Args:
        images: Float array `[B, H, W, C]`.
        kernel: Float array `[k, k, C, F]`.
        bias: Float array `[F]`.
        padding: Rows and columns of zeros added on each side first. The convolution's output, of
            `H + 2 * padding - k + 1` rows and as many columns for W, must have an even number of
            both.

    Returns:
        Float array `[B, H', W', F]`, with half of those rows and columns.

    Raises:
        ValueError: The shapes do not fit.
        TypeError: The arrays are not floating point of one type.

    >>> images, kernel, bias = jnp.ones((1, 6, 6, 3)), jnp.ones((5, 5, 3, 2)), jnp.zeros(2)
    >>> print(conv_relu_pool(images, kernel, bias).round(3))
    [[[[75. 75.]]]]
    """
    _check(images, kernel, bias, padding)
    # Under shard_map, images vary across devices but parameters do not, and the custom derivative
    # is one device's own. `where(False, …)` marks all as varying, and its derivative sums the
    # parameters' over the devices. XLA removes the `where`.
    arrays = (images, kernel, bias)
    differing = sum(jnp.sum(lax.stop_gradient(array)) for array in arrays)
    images, kernel, bias = (jnp.where(False, differing, array) for array in arrays)
    return _conv_relu_pool(images, kernel, bias, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _conv_relu_pool(images: Array, kernel: Array, bias: Array, padding: int) -> Array:
    return _forward(images, kernel, bias, padding)[0]


def _forward(
    images: Array, kernel: Array, bias: Array, padding: int
) -> tuple[Array, tuple[Array, Array, Array]]:
    # Both platforms return the same residuals, so that no branch carries those of the other.
    on_cpu = _tiles.forward if _has_parts(images) else _forward_native
    pooled, winner = lax.platform_dependent(
        images,
        kernel,
        bias,
        cpu=functools.partial(on_cpu, padding=padding),
        default=functools.partial(_forward_native, padding=padding),
    )
    return pooled, (images, kernel, winner)


def _backward(
    padding: int, residuals: tuple[Array, Array, Array], gradient: Array
) -> tuple[Array, Array, Array]:
    images, kernel, winner = residuals
    on_cpu = _tiles.backward if _has_parts(images) else _backward_native
    return lax.platform_dependent(
        images,
        kernel,
        winner,
        gradient,
        cpu=functools.partial(on_cpu, padding=padding),
        default=functools.partial(_backward_native, padding=padding),
    )


_conv_relu_pool.defvjp(_forward, _backward)


def _has_parts(images: Array) -> bool:
    # A batch whose size is a symbol, for jax.export, cannot be divided into parts, as tiles are.
    return isinstance(images.shape[0], int)


def _check(images: Array, kernel: Array, bias: Array, padding: int) -> None:
    for name, array in {"images": images, "kernel": kernel, "bias": bias}.items():
        if not isinstance(array, Array | np.ndarray):
            raise TypeError(f"{name} must be an array, not a {type(array).__name__}")
    if not isinstance(padding, int):
        raise TypeError(f"padding must be an integer, not {padding!r}")
    dtypes = {array.dtype for array in (images, kernel, bias)}
    if len(dtypes) > 1 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            "images, kernel and bias must be floating-point arrays of one type, not "
            f"{images.dtype}, {kernel.dtype} and {bias.dtype}"
        )
    if images.ndim != 4:
        raise ValueError(
            f"images must have shape [batch, height, width, channels], not {images.shape}"
        )
    size = kernel.shape[0] if kernel.ndim == 4 else 0
    features = kernel.shape[-1] if kernel.ndim == 4 else 0
    if size == 0 or kernel.shape != (size, size, images.shape[-1], features):
        raise ValueError(
            f"kernel must have shape [k, k, {images.shape[-1]}, features], "
            f"for images of shape {images.shape}, not {kernel.shape}"
        )
    if bias.shape != (features,):
        raise ValueError(f"bias must have shape ({features},), not {bias.shape}")
    if images.shape[-1] == 0 or features == 0:
        raise ValueError(f"kernel must have channels and features, but has shape {kernel.shape}")
    if padding < 0:
        raise ValueError(f"padding must be at least 0, not {padding}")
    outputs = [side + 2 * padding - size + 1 for side in images.shape[1:3]]
    if any(side < 1 or side % 2 for side in outputs):
        raise ValueError(
            f"images of shape {images.shape} with padding {padding} give {outputs[0]} x "
            f"{outputs[1]} outputs of a {size} x {size} kernel; both must be even and not 0"
        )


# The backend's convolution.


def _convolve(images: Array, kernel: Array, padding: int) -> Array:
    sides = ((padding, padding), (padding, padding))
    return lax.conv_general_dilated(
        images, kernel, (1, 1), sides, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _forward_native(images: Array, kernel: Array, bias: Array, padding: int) -> tuple[Array, Array]:
    outputs = _convolve(images, kernel, padding)
    places = [outputs[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    return select(places, bias.reshape(1, 1, 1, -1))


def _backward_native(
    images: Array, kernel: Array, winner: Array, gradient: Array, padding: int
) -> tuple[Array, Array, Array]:
    batch, height, width, features = gradient.shape
    outputs = unselect(gradient, winner, (2, 4))
    outputs = outputs.reshape(batch, 2 * height, 2 * width, features)
    _, vjp = jax.vjp(functools.partial(_convolve, padding=padding), images, kernel)
    images_gradient, kernel_gradient = vjp(outputs)
    bias_gradient = jnp.sum(jnp.where(winner == DEAD, 0, gradient), (0, 1, 2))
    return images_gradient, kernel_gradient, bias_gradient
