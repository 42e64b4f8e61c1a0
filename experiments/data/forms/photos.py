"""Pictures of digits in the form of MNIST's: light on black, 28x28, as pure functions.

MNIST's digits fill a box of 20x20 pixels, and their centre of mass lies in the middle of the image.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 28
BOX = 20
# Larger pictures are reduced first: a digit needs few pixels, and averages have less noise.
_LARGEST_SIDE = 800
# Ink differs from its ground by this many grey levels of 255 at least,
_LEAST_CONTRAST = 25
# and by this many times the difference that half of all pixels have.
_LEAST_TO_NOISE = 10
_DARK = 64
# In pixels of the box. Thinner lines would fade when they are scaled down.
_LEAST_STROKE = 1.5


class Prepared(NamedTuple):
    """A digit in MNIST's form.

    Attributes:
        pixels: uint8 `[28, 28]`.
        done: What was done to the picture, in words.
    """

    pixels: np.ndarray
    done: str


def prepare(picture: np.ndarray) -> Prepared | None:
    """Brings a picture of one digit into MNIST's form; None if there is no digit.

    Ground that is lit unevenly is levelled. Ink is what differs from it; specks are left out.

    Args:
        picture: uint8 `[H, W]`, a dark digit on a light ground or a light one on a dark ground.
    """
    if is_in_form(picture):
        return Prepared(picture, "left as it is")
    grey = _reduced(picture)
    ink, is_dark = _ink(grey)
    peak, noise = ink.max(), np.median(np.abs(ink))
    if peak < max(_LEAST_CONTRAST, _LEAST_TO_NOISE * noise):
        return None
    is_ink = _without_specks(ink > 0.4 * peak)
    rows, columns = ndimage.find_objects(is_ink.astype(np.uint8))[0]
    # Beside the ink, strokes fade out; farther away there is only noise.
    nearby = ndimage.binary_dilation(is_ink, iterations=2)
    strokes = np.where(nearby, np.clip((ink - 0.15 * peak) / (0.65 * peak), 0, 1), 0)
    cropped = strokes[rows, columns]
    thick = _thickened(cropped, is_ink[rows, columns])
    box = scaled_to_box(thick)
    steps = ["inverted"] if is_dark else []
    if grey.shape != picture.shape:
        steps.append(f"reduced to {grey.shape[1]}x{grey.shape[0]}")
    steps.append(f"cropped to {cropped.shape[1]}x{cropped.shape[0]}")
    if thick is not cropped:
        steps.append("thickened")
    steps += [f"scaled to {box.shape[1]}x{box.shape[0]}", "centred"]
    return Prepared(centred(box), ", ".join(steps))


def is_in_form(picture: np.ndarray) -> bool:
    """Whether a picture is of MNIST's size, with something light on a dark ground."""
    if picture.shape != (SIDE, SIDE):
        return False
    ground = np.median(_frame(picture))
    return bool(ground < _DARK and picture.max() - ground >= _LEAST_CONTRAST)


def scaled_to_box(strokes: np.ndarray) -> np.ndarray:
    """Scales a digit to fit into the box; float `[H, W]`."""
    scale = BOX / max(strokes.shape)
    height, width = (max(1, round(side * scale)) for side in strokes.shape)
    image = Image.fromarray(strokes.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def centred(box: np.ndarray) -> np.ndarray:
    """Puts a digit into an image so that its centre of mass is in the middle; uint8 `[28, 28]`."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    centre = ndimage.center_of_mass(box)
    top, left = (
        int(np.clip(round(SIDE / 2 - place), 0, SIDE - side))
        for place, side in zip(centre, box.shape, strict=True)
    )
    light = np.clip(np.rint(255 * box / box.max()), 0, 255)
    image[top : top + box.shape[0], left : left + box.shape[1]] = light
    return image


def _reduced(picture: np.ndarray) -> np.ndarray:
    """Averages the blocks of a large picture; float32 `[H, W]`."""
    factor = min(-(-max(picture.shape) // _LARGEST_SIDE), *picture.shape)
    rows, columns = (size // factor for size in picture.shape)
    blocks = picture[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor)
    return blocks.mean((1, 3), dtype=np.float32)


def _ink(grey: np.ndarray) -> tuple[np.ndarray, bool]:
    """How far each pixel differs from the ground towards the ink, and whether the ink is dark."""
    smooth = ndimage.gaussian_filter(grey, max(grey.shape) / 300)
    usual = np.median(_frame(smooth))
    is_dark = bool(usual - smooth.min() >= smooth.max() - usual)
    light = 255 - smooth if is_dark else smooth
    # An opening takes away what is narrower than its window. It leaves the ground alone, but for
    # a slope at the border: the slope is taken out first.
    slope = _slope(light)
    window = max(grey.shape) // 3 + 1
    ground = slope + ndimage.grey_opening(light - slope, (window, window))
    ink = light - ground
    if is_dark:
        # Ink has less contrast in the shade.
        ink *= 255 / np.maximum(255 - ground, _DARK)
    return ink - np.median(ink), is_dark


def _slope(light: np.ndarray) -> np.ndarray:
    """The plane that fits best, `[H, W]`."""
    rows, columns = (np.linspace(-1, 1, size, dtype=np.float32) for size in light.shape)
    down = rows[:, None] * ((rows @ light).sum() / (light.shape[1] * max(rows @ rows, 1e-9)))
    right = columns * ((light @ columns).sum() / (light.shape[0] * max(columns @ columns, 1e-9)))
    return light.mean() + down + right


def _frame(picture: np.ndarray) -> np.ndarray:
    """The pixels along the border of a picture."""
    width = 1 + max(picture.shape) // 50
    inner = np.zeros(picture.shape, bool)
    inner[width:-width, width:-width] = True
    return picture[~inner]


def _without_specks(is_ink: np.ndarray) -> np.ndarray:
    """Keeps the parts that have at least a tenth of the pixels of the largest."""
    labels, count = ndimage.label(is_ink, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return (sizes >= 0.1 * sizes.max())[labels] & is_ink


def _thickened(strokes: np.ndarray, is_ink: np.ndarray) -> np.ndarray:
    """Widens strokes that would be narrower in the box than MNIST's."""
    # Along the middle of a stroke, the distance to the ground is half its width.
    distances = ndimage.distance_transform_edt(np.pad(is_ink, 1))
    ridge = distances[(distances == ndimage.maximum_filter(distances, 3)) & (distances > 0)]
    width = 2 * np.median(ridge) - 1
    missing = round(_LEAST_STROKE * max(is_ink.shape) / BOX - width)
    if missing <= 0:
        return strokes
    return ndimage.grey_dilation(np.pad(strokes, missing // 2), (missing + 1, missing + 1))
