"""Digits drawn with this file's own pen, for tests of what happens to pictures."""

import numpy as np
from PIL import Image, ImageDraw


def _arc(
    centre: tuple[float, float], radii: tuple[float, float], start: float, end: float
) -> list[tuple[float, float]]:
    """Points of an ellipse from one angle to another, in degrees, clockwise from three o'clock."""
    angles = np.radians(np.linspace(start, end, 40))
    xs, ys = centre[0] + radii[0] * np.cos(angles), centre[1] + radii[1] * np.sin(angles)
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


# Strokes in a box of width 0.6 and height 1; x to the right, y down.
STROKES: dict[int, list[list[tuple[float, float]]]] = {
    0: [_arc((0.3, 0.5), (0.3, 0.5), -90, 270)],
    1: [[(0.32, 0.0), (0.28, 1.0)]],
    2: [[*_arc((0.3, 0.28), (0.28, 0.28), -170, 40), (0.02, 0.98), (0.6, 0.96)]],
    3: [
        [
            *_arc((0.27, 0.25), (0.27, 0.25), -150, 90),
            *_arc((0.27, 0.74), (0.3, 0.26), -90, 150),
        ]
    ],
    4: [[(0.1, 0.0), (0.05, 0.5), (0.5, 0.48)], [(0.52, 0.05), (0.45, 1.0)]],
    7: [[(0.0, 0.03), (0.58, 0.0), (0.28, 1.0)]],
}


def draw(
    digit: int,
    *,
    size: tuple[int, int] = (200, 150),
    place: tuple[int, int] = (95, 25),
    height: int = 90,
    width: int = 9,
) -> np.ndarray:
    """A dark digit on white paper.

    Args:
        digit: a key of `STROKES`.
        size: width and height of the picture.
        place: place of the digit's upper left corner.
        height: height of the digit.
        width: width of the pen.

    Returns:
        uint8 `[H, W]`.
    """
    finer = 4
    image = Image.new("L", (finer * size[0], finer * size[1]), 255)
    pen, radius = ImageDraw.Draw(image), finer * width / 2
    for stroke in STROKES[digit]:
        points = [
            (finer * (place[0] + height * x), finer * (place[1] + height * y)) for x, y in stroke
        ]
        pen.line(points, fill=20, width=finer * width, joint="curve")
        for x, y in (points[0], points[-1]):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=20)
    return np.asarray(image.resize(size, Image.Resampling.BOX))
