"""Cuts images into windows, from each of which a convolution computes a tile of outputs.

Images are `[H, W, C, B]` here. The batch is innermost in memory, so everything but matrix products
is elementwise over long rows. Windows are `[h, w, C, rows, columns, B]`: the place in a window
first, and which window last. Tiles are alike, with features for channels.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax


class Axis(NamedTuple):
    """How the images' rows, or their columns, are cut.

    Attributes:
        tiles: Number of tiles.
        tile: Outputs of a tile, an even number.
        window: Pixels of a window.
        padding: Zeros to add before and after the images.
        margin: Further zeros before a window, which are not in memory.
        missing: Outputs by which the last tile is longer than the image.
    """

    tiles: int
    tile: int
    window: int
    padding: tuple[int, int]
    margin: int
    missing: int


Axes = tuple[Axis, Axis]
"""Rows and columns."""


def cut_axis(side: int, size: int, padding: int, largest: int) -> Axis:
    """Cuts one axis into as few and as small tiles as can be.

    Args:
        side: Pixels of the images along this axis.
        size: Of the kernel.
        padding: Zeros that the convolution adds on each side.
        largest: Outputs of a tile at most, an even number.
    """
    outputs = side + 2 * padding - size + 1
    tiles = -(-outputs // largest)
    tile = 2 * -(-outputs // (2 * tiles))
    missing = tiles * tile - outputs
    return Axis(tiles, tile, tile + size - 1, (padding, padding + missing), 0, missing)


def cut_windows(images: Array, axes: Axes) -> Array:
    """Cuts `[H, W, C, B]` into `[h, w, C, rows, columns, B]`."""
    images = jnp.pad(images, (*(axis.padding for axis in axes), (0, 0), (0, 0)))
    for number, axis in enumerate(axes):
        starts = range(0, axis.tiles * axis.tile, axis.tile)
        parts = [
            lax.slice_in_dim(images, start, start + axis.window, axis=number) for start in starts
        ]
        images = jnp.stack(parts, 3 + number)
    return images
