"""How a picture shows one image and bars of its classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.reports.tables import shortened

MOST_BARS = 10


def draw_image(axes: Any, image: np.ndarray, strokes: bool) -> None:
    """Draws an image without a frame.

    Args:
        axes: Where to draw.
        image: uint8 `[H, W]`, or `[H, W, 3]`.
        strokes: Whether it shows light strokes, which are drawn as dark ink.
    """
    # Colours are drawn as they are, whatever the colour map.
    axes.imshow(image, cmap="gray_r" if strokes else "gray", vmin=0, vmax=255)
    axes.set_axis_off()


def classes_of_bars(probable: np.ndarray, retained: np.ndarray, true: int) -> np.ndarray:
    """The classes to draw of an image: all of few; else the most probable, then the most retained.

    The true class comes first then, whatever it has.

    Args:
        probable: Probabilities `[K]`.
        retained: Retain probabilities `[K]`.
        true: The label.
    """
    count = len(probable)
    if count <= MOST_BARS:
        return np.arange(count)
    # Unlikely classes are alike in being unlikely: which of them are retained says more.
    order = np.lexsort((-retained, -np.round(probable, 2), np.arange(count) != true))
    return order[:MOST_BARS]


def name_bars(axes: Any, names: Sequence[str], classes: np.ndarray, true: int) -> None:
    """Writes the names of classes below bars at 0, 1, 2, …, the true one's in bold."""
    labels = [shortened(names[number]) for number in classes]
    style: Any = {}
    if max(map(len, labels)) > 5:
        style = {"rotation": 25, "ha": "right", "fontsize": 7, "rotation_mode": "anchor"}
    axes.set(ylim=(0, 1.05), yticks=(0, 1))
    axes.set_xticks(range(len(labels)), labels, parse_math=False, **style)
    for number in np.flatnonzero(classes == true):
        axes.get_xticklabels()[number].set_fontweight("bold")
