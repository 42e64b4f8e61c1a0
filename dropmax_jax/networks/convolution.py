"""Convolution, relu and 2x2 max-pooling as one differentiable function, quick on every platform.

On GPU and TPU the backend's own convolution is used. On CPU the same values come from one matrix
product per layer. XLA's CPU convolutions are slow inside loops and the usual im2col writes every
pixel 25 times, so the product computes a whole block of outputs at once: the outputs of a block
share one window of the image, and the four outputs that the pooling compares stand side by side.
For a 5x5 kernel and blocks of 2x2 outputs, a window has 6x6 pixels, every pixel is written 9 times,
and pooling is an elementwise maximum of four contiguous pieces. The price is multiplications by
zero, 1.44 times the convolution's own, which costs less than the memory traffic it saves.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

# Which output of a 2x2 pooling window had the maximum, in row-major order; _DEAD where relu is 0.
_DEAD = 4
# What the windows of a part of a batch may take.
_CACHED_BYTES = 3_000_000


@jax.custom_vjp
def conv_relu_pool(images: Array, kernel: Array, bias: Array) -> Array:
    """Convolves without padding, adds the bias, applies relu, max-pools 2x2 with stride 2.

    Of equal maxima in a pooling window the first, in row-major order, gets the gradient.
    Reverse-mode differentiation only.

    Args:
        images: float array `[B, H, W, C]`.
        kernel: float array `[k, k, C, F]`, k odd, with `H - k + 1` and `W - k + 1` even.
        bias: float array `[F]`.

    Returns:
        Float array `[B, (H - k + 1) / 2, (W - k + 1) / 2, F]`.

    Raises:
        ValueError: the shapes do not fit.

    >>> images, kernel, bias = jnp.ones((1, 6, 6, 3)), jnp.ones((5, 5, 3, 2)), jnp.zeros(2)
    >>> conv_relu_pool(images, kernel, bias)
    Array([[[[75., 75.]]]], dtype=float32)
    """
    return _forward(images, kernel, bias)[0]


def _forward(images: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    _check_shapes(images, kernel, bias)
    # Both platforms return the same residuals, so that no branch carries those of the other.
    pooled, winner = lax.platform_dependent(
        images, kernel, bias, cpu=_forward_blocked, default=_forward_native
    )
    return pooled, (images, kernel, winner)


def _backward(residuals: tuple[Array, Array, Array], gradient: Array) -> tuple[Array, Array, Array]:
    images, kernel, winner = residuals
    images_gradient, kernel_gradient = lax.platform_dependent(
        images, kernel, winner, gradient, cpu=_backward_blocked, default=_backward_native
    )
    bias_gradient = jnp.sum(jnp.where(winner == _DEAD, 0, gradient), (0, 1, 2))
    return images_gradient, kernel_gradient, bias_gradient


conv_relu_pool.defvjp(_forward, _backward)


def _check_shapes(images: Array, kernel: Array, bias: Array) -> None:
    if images.ndim != 4:
        raise ValueError(
            f"images must have shape [batch, height, width, channels], not {images.shape}"
        )
    size = kernel.shape[0] if kernel.ndim == 4 else 0
    features = kernel.shape[-1] if kernel.ndim == 4 else 0
    if kernel.shape != (size, size, images.shape[-1], features) or size % 2 == 0:
        raise ValueError(
            f"kernel must have shape [k, k, {images.shape[-1]}, features] with k odd, "
            f"for images of shape {images.shape}, not {kernel.shape}"
        )
    if bias.shape != (features,):
        raise ValueError(f"bias must have shape ({features},), not {bias.shape}")
    if any(side < size or (side - size + 1) % 2 for side in images.shape[1:3]):
        raise ValueError(
            f"images must be at least {size} pixels high and wide, and so large that the "
            f"convolution's output has an even height and width, but have shape {images.shape}"
        )


def _select(outputs: Sequence[Array], bias: Array) -> tuple[Array, Array]:
    """Pools four convolution outputs of one shape `[..., F]`: the result and which one won."""
    best = functools.reduce(jnp.maximum, outputs)
    # All four have the same bias, and relu is monotonic: both can wait for the maximum.
    pooled = best + bias
    winner = jnp.full(best.shape, 3, jnp.uint8)
    for phase in (2, 1, 0):
        winner = jnp.where(outputs[phase] == best, jnp.uint8(phase), winner)
    return jax.nn.relu(pooled), jnp.where(pooled > 0, winner, jnp.uint8(_DEAD))


def _unselect(gradient: Array, winner: Array) -> list[Array]:
    """The transpose of `_select`: the gradient with respect to each of the four outputs."""
    return [jnp.where(winner == phase, gradient, 0) for phase in range(4)]


# The backend's convolution.


def _convolve(images: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _forward_native(images: Array, kernel: Array, bias: Array) -> tuple[Array, Array]:
    outputs = _convolve(images, kernel)
    return _select([outputs[:, row::2, column::2] for row in (0, 1) for column in (0, 1)], bias)


def _backward_native(
    images: Array, kernel: Array, winner: Array, gradient: Array
) -> tuple[Array, Array]:
    batch, height, width, features = gradient.shape
    phases = jnp.stack(_unselect(gradient, winner)).reshape(2, 2, *gradient.shape)
    outputs = phases.transpose(2, 3, 0, 4, 1, 5).reshape(batch, 2 * height, 2 * width, features)
    _, vjp = jax.vjp(_convolve, images, kernel)
    images_gradient, kernel_gradient = vjp(outputs)
    return images_gradient, kernel_gradient


# One matrix product over blocks of outputs.


def _block_size(images: Array, kernel: Array) -> int:
    """The side of a block of outputs: larger ones pay while a window has few numbers."""
    size = kernel.shape[0]
    outputs = [side - size + 1 for side in images.shape[1:3]]
    if images.shape[-1] == 1 and (size - 1) % 4 == 0 and all(side % 4 == 0 for side in outputs):
        return 4
    return 2


def _windows(images: Array, kernel_size: int, block: int) -> Array:
    """The window of each block of outputs, `[B, rows, columns, pixels of a window * C]`."""
    batch, height, width, channels = images.shape
    rows, columns = (height - kernel_size + 1) // block, (width - kernel_size + 1) // block
    tiles = images.reshape(batch, height // block, block, width // block, block, channels)
    tiles = tiles.transpose(0, 1, 3, 2, 4, 5)
    reach = range((kernel_size - 1) // block + 1)
    pieces = [tiles[:, i : i + rows, j : j + columns] for i in reach for j in reach]
    return jnp.stack(pieces, 3).reshape(batch, rows, columns, -1)


def _block_kernel(kernel: Array, block: int) -> Array:
    """The matrix `[pixels of a window * C, 4 * (block / 2)**2 * F]` that maps a window to a block.

    Rows stand in the order of `_windows`. Columns: the four places in a pooling window outermost,
    then the pooling windows of the block, then the features.
    """
    size, _, channels, features = kernel.shape
    shifts = [
        (2 * row + row_phase, 2 * column + column_phase)
        for row_phase in (0, 1)
        for column_phase in (0, 1)
        for row in range(block // 2)
        for column in range(block // 2)
    ]
    matrix = jnp.stack(
        [
            jnp.pad(kernel, ((i, block - 1 - i), (j, block - 1 - j), (0, 0), (0, 0)))
            for i, j in shifts
        ],
        3,
    )
    tiles = (size - 1) // block + 1
    matrix = matrix.reshape(tiles, block, tiles, block, channels, -1).transpose(0, 2, 1, 3, 4, 5)
    return matrix.reshape(-1, len(shifts) * features)


def _unblock(pooled: Array, block: int, features: int) -> Array:
    """`[B, rows, columns, (block / 2)**2 * F]` to the image `[B, height, width, F]`."""
    batch, rows, columns, _ = pooled.shape
    side = block // 2
    image = pooled.reshape(batch, rows, columns, side, side, features).transpose(0, 1, 3, 2, 4, 5)
    return image.reshape(batch, rows * side, columns * side, features)


def _block(image: Array, block: int) -> Array:
    """The inverse of `_unblock`."""
    batch, height, width, features = image.shape
    side = block // 2
    tiles = image.reshape(batch, height // side, side, width // side, side, features)
    return tiles.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // side, width // side, -1)


def _num_chunks(images: Array, kernel: Array) -> int:
    """In how many parts to take a batch, so that the windows of a part fit into the caches."""
    batch, (size, block) = len(images), (kernel.shape[0], _block_size(images, kernel))
    windows = jax.eval_shape(functools.partial(_windows, kernel_size=size, block=block), images)
    fitting = -(-windows.size * windows.dtype.itemsize // _CACHED_BYTES)
    return next((chunks for chunks in range(fitting, batch) if batch % chunks == 0), batch)


def _split(array: Array, chunks: int) -> Array:
    return array.reshape(chunks, -1, *array.shape[1:])


def _join(array: Array) -> Array:
    return array.reshape(-1, *array.shape[2:])


def _forward_blocked(images: Array, kernel: Array, bias: Array) -> tuple[Array, Array]:
    def chunk(images: Array) -> tuple[Array, Array]:
        return _forward_chunk(images, kernel, bias)

    pooled, winner = lax.map(chunk, _split(images, _num_chunks(images, kernel)))
    return _join(pooled), _join(winner)


def _backward_blocked(
    images: Array, kernel: Array, winner: Array, gradient: Array
) -> tuple[Array, Array]:
    def chunk(total: Array, parts: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        images, winner, gradient = parts
        images_gradient, kernel_gradient = _backward_chunk(images, kernel, winner, gradient)
        return total + kernel_gradient, images_gradient

    chunks = _num_chunks(images, kernel)
    parts = _split(images, chunks), _split(winner, chunks), _split(gradient, chunks)
    kernel_gradient, images_gradient = lax.scan(chunk, jnp.zeros_like(kernel), parts)
    return _join(images_gradient), kernel_gradient


def _forward_chunk(images: Array, kernel: Array, bias: Array) -> tuple[Array, Array]:
    block, features = _block_size(images, kernel), kernel.shape[-1]
    outputs = _windows(images, kernel.shape[0], block) @ _block_kernel(kernel, block)
    phases = jnp.split(outputs, 4, -1)
    pooled, winner = _select(phases, jnp.tile(bias, (block // 2) ** 2))
    return _unblock(pooled, block, features), _unblock(winner, block, features)


def _backward_chunk(
    images: Array, kernel: Array, winner: Array, gradient: Array
) -> tuple[Array, Array]:
    block = _block_size(images, kernel)
    phases = _unselect(_block(gradient, block), _block(winner, block))
    outputs_gradient = jnp.concatenate(phases, -1)

    def product(images: Array, kernel: Array) -> Array:
        return _windows(images, kernel.shape[0], block) @ _block_kernel(kernel, block)

    _, vjp = jax.vjp(product, images, kernel)
    images_gradient, kernel_gradient = vjp(outputs_gradient)
    return images_gradient, kernel_gradient
