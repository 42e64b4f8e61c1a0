"""Matrices of classes: what they hold, which classes they show, and how they are drawn.

They stay readable with hundreds of classes: they show those that are confused most often.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib.colors
import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

MOST_CLASSES = 24
# So many stand in the order of their labels, as a reader expects of digits.
FEW = 10
INCHES_OF_CLASS = 0.24


def class_means(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The means `[K, K]` of `[N, K]` over the images of each class; NaN where there is none."""
    count = values.shape[-1]
    sums = np.zeros((count, count))
    np.add.at(sums, labels, values)
    of_class = np.bincount(labels, minlength=count)[:, None]
    return np.divide(sums, of_class, out=np.full_like(sums, np.nan), where=of_class > 0)


def confusion_counts(labels: np.ndarray, predicted: np.ndarray, count: int) -> np.ndarray:
    """How many images of each class `[count, count]` (rows) are taken for each (columns)."""
    cells = np.bincount(labels * count + predicted, minlength=count * count)
    return cells.reshape(count, count)


def row_percent(counts: np.ndarray) -> np.ndarray:
    """Each count as a percentage of its row's sum; NaN in a row without any."""
    totals = counts.sum(1, keepdims=True)
    blank = np.full(counts.shape, np.nan)
    return np.divide(100 * counts, totals, out=blank, where=totals > 0)


def chosen_classes(
    confusions: np.ndarray, average: np.ndarray, most: int = MOST_CLASSES
) -> np.ndarray:
    """The classes to draw, so that those that are alike stand side by side.

    Few classes are all drawn, in the order of their labels. Of many, the pairs that are confused
    most often are drawn; where these are equal, those that retain each other.

    Args:
        confusions: Of `confusion_counts`.
        average: Mean retain probabilities, of `class_means`.
        most: How many to draw at most.
    """
    count = len(confusions)
    if count <= FEW:
        return np.arange(count)
    retains = np.nan_to_num(average)
    # Below 1: a retain probability decides only where the numbers of confusions are equal.
    alike = confusions + confusions.T + 0.49 * (retains + retains.T)
    if count <= most:
        return _side_by_side(alike)
    one, other = np.triu_indices(count, 1)
    chosen: dict[int, None] = {}
    for pair in np.argsort(-alike[one, other], kind="stable"):
        new = [number for number in (one[pair], other[pair]) if number not in chosen]
        if len(chosen) + len(new) <= most:
            chosen |= dict.fromkeys(map(int, new))
        if len(chosen) == most:
            break
    classes = np.array(sorted(chosen))
    return classes[_side_by_side(alike[np.ix_(classes, classes)])]


def _side_by_side(alike: np.ndarray) -> np.ndarray:
    """An order in which those that are alike are neighbours."""
    # Here, because scipy takes long to import and most pictures do without.
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    # The logarithm, so that the few pairs that are most alike do not decide on everything.
    closeness = np.log1p(alike)
    distances = closeness.max() - closeness
    np.fill_diagonal(distances, 0)
    tree = hierarchy.linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    order: np.ndarray = hierarchy.leaves_list(tree)
    return order


def draw_off_diagonal(
    axes: Any, matrix: np.ndarray, labels: Sequence[str], digits: int, log: bool = False
) -> None:
    """Draws a matrix of classes in the colours of what lies off its diagonal.

    The diagonal is often so far from all else that on a common scale the rest would have one
    colour. It is grey, and holds its numbers if there is room.

    Args:
        axes: Where to draw.
        matrix: `[K, K]`; NaN is left blank, and so is 0 on a logarithmic scale.
        labels: Of K classes.
        digits: Of the diagonal's numbers, after the point.
        log: Whether the scale is logarithmic.
    """
    own = np.eye(len(matrix), dtype=bool)
    shown = np.ma.masked_invalid(np.where(own, np.nan, matrix))
    if log:
        shown = np.ma.masked_less_equal(shown, 0)
    least, most = (float(shown.min()), float(shown.max())) if shown.count() else (1.0, 2.0)
    norm: Any = matplotlib.colors.LogNorm if log else matplotlib.colors.Normalize
    # Dark is much and white is none, in all matrices alike.
    image = axes.imshow(shown, norm=norm(least, most), cmap="cividis_r")
    axes.imshow(np.ma.masked_array(np.ones_like(matrix), ~own), cmap="Greys", vmin=0, vmax=5)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.7)
    if log:
        # Within one power of ten, its multiples alone would be a single number.
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_locator(NullLocator())
    few = len(labels) <= FEW
    for number, value in enumerate(np.diagonal(matrix) if few else ()):
        if np.isfinite(value):
            text = f"{value:.{digits}f}".removeprefix("0")
            axes.text(number, number, text, ha="center", va="center", fontsize=8)
    style: Any = {"fontsize": 10 if few else 8, "parse_math": False}
    axes.set_xticks(range(len(labels)), labels, rotation=90 if are_long(labels) else 0, **style)
    axes.set_yticks(range(len(labels)), labels, **style)


def are_long(labels: Sequence[str]) -> bool:
    """Whether labels below the columns of a matrix would overlap unless they were turned."""
    return max(map(len, labels)) > (3 if len(labels) <= FEW else 2)
