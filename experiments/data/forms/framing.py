"""Brings pictures of any size into the form of a data set's images.

The largest part of the picture that has the form's ratio of height to width, in the picture's
middle, is scaled to the form's size, smoothly; what lies beyond it is cut off. `folder` makes its
images in this way, and `experiments.predict` those of the pictures it is given.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image


class Framed(NamedTuple):
    """A picture in the form of a data set's images.

    Attributes:
        pixels: uint8 `[H, W]`, or `[H, W, 3]`.
        done: What was done to the picture, in words.
    """

    pixels: np.ndarray
    done: str


def framed(picture: np.ndarray, shape: Sequence[int]) -> Framed:
    """Brings a picture into a form.

    Args:
        picture: uint8, grey `[H, W]` or colour `[H, W, 3]`.
        shape: Of the result: height and width, and 3 for colour.

    Example:
        >>> framed(np.zeros((480, 640, 3), np.uint8), (32, 32)).done
        'turned grey, cropped to its middle, scaled to 32x32'
    """
    height, width = shape[:2]
    steps = []
    image = Image.fromarray(picture)
    if len(shape) != picture.ndim:
        steps.append("turned grey" if len(shape) == 2 else "grey in three channels")
        image = image.convert("L" if len(shape) == 2 else "RGB")
    middle = _middle(image.size, (width, height))
    if middle != (0, 0, *image.size):
        steps.append("cropped to its middle")
        image = image.crop(middle)
    if image.size != (width, height):
        steps.append(f"scaled to {width}x{height}")
        # The gap has a large picture averaged in blocks first, which is fast and cannot be seen.
        image = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return Framed(np.asarray(image), ", ".join(steps) or "left as it is")


def _middle(size: tuple[int, int], form: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box of the largest part in the middle with the form's ratio of width to height."""
    across = max(1, min(size[0], round(size[1] * form[0] / form[1])))
    down = max(1, min(size[1], round(size[0] * form[1] / form[0])))
    # In whole pixels, so that a picture that is large enough already is not blurred.
    left, top = (size[0] - across) // 2, (size[1] - down) // 2
    return left, top, left + across, top + down
