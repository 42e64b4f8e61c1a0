"""The picture of the classes that a model retains, confuses, and puts right with its mask.

It stays readable with hundreds of classes: it shows those that are confused most often.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib.colors
import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from experiments.data.split import Split
from experiments.reports.drawing import Figure
from experiments.reports.tables import shortened

MOST_CLASSES = 24
# So many stand in the order of their labels, as a reader expects of digits.
_FEW = 10
_MOST_BARS = 10
_INCHES_OF_CLASS = 0.24


def draw(
    test: Split,
    retained: np.ndarray,
    softmax: np.ndarray,
    masked: np.ndarray,
    class_names: Sequence[str],
    shown: np.ndarray,
    strokes: bool,
) -> Figure:
    """Draws the picture; see `plots.masks`.

    Args:
        test: The images and labels.
        retained: Retain probabilities `[N, K]`.
        softmax: Probabilities by the class logits alone, `[N, K]`.
        masked: The model's probabilities, `[N, K]`.
        class_names: Of K classes.
        shown: Indices of the images to show, at most 4.
        strokes: Whether the images show light strokes, which are drawn as dark ink.
    """
    names = [shortened(name) for name in class_names]
    average = class_means(test.labels, retained)
    confusions = confusion_counts(test.labels, masked.argmax(-1), len(names))
    classes = chosen_classes(confusions, average)
    is_long = _are_long([names[number] for number in classes])
    side = max(3.4, _INCHES_OF_CLASS * len(classes)) + is_long
    wide, height = 2 * side + (2.2 if is_long else 0.6), max(4.6, side + 0.9)
    figure = Figure(figsize=(wide + 6.6, height), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=(wide, 6.6))
    left, right = halves
    are_digits = list(class_names) == list("0123456789")
    noun = "digit" if are_digits else "class"
    _draw_matrices(left, average, confusions, classes, names, noun)
    _draw_images(
        right, test, (softmax, retained, masked), names, shown, strokes, are_digits=are_digits
    )
    return figure


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
    if count <= _FEW:
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
    # The logarithm, so that the few pairs that are most alike do not decide on everything.
    closeness = np.log1p(alike)
    distances = closeness.max() - closeness
    np.fill_diagonal(distances, 0)
    tree = hierarchy.linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    order: np.ndarray = hierarchy.leaves_list(tree)
    return order


def _draw_matrices(
    figure: Any,
    average: np.ndarray,
    confusions: np.ndarray,
    classes: np.ndarray,
    names: Sequence[str],
    noun: str,
) -> None:
    if len(classes) < len(names):
        figure.suptitle(f"{len(classes)} of {len(names)} classes, those most often confused")
    retains, confuses = figure.subplots(1, 2)
    rows = np.ix_(classes, classes)
    image = retains.imshow(average[rows], vmin=0, vmax=1, cmap="viridis")
    figure.colorbar(image, ax=retains, shrink=0.7)
    totals = confusions.sum(1, keepdims=True)
    percent = 100 * np.divide(
        confusions, totals, out=np.full(confusions.shape, np.nan), where=totals > 0
    )
    drawn = np.ma.masked_less_equal(np.nan_to_num(percent[rows]), 0)
    # Rare confusions would not be seen beside the diagonal on a linear scale.
    least = min(float(drawn.min()), 10.0) if drawn.count() else 1.0
    scale = matplotlib.colors.LogNorm(least, 100)
    image = confuses.imshow(drawn, norm=scale, cmap="magma_r")
    bar = figure.colorbar(image, ax=confuses, shrink=0.7)
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.ax.yaxis.set_minor_formatter("")
    labels = [names[number] for number in classes]
    is_long = _are_long(labels)
    style: Any = {"fontsize": 10 if len(classes) <= _FEW else 8, "parse_math": False}
    for axes, title, across in (
        (retains, "mean retain probability", "class"),
        (confuses, "% of a class predicted as", "predicted class"),
    ):
        axes.set(title=title, xlabel=across, ylabel=f"true {noun}")
        axes.set_xticks(range(len(labels)), labels, rotation=90 if is_long else 0, **style)
        axes.set_yticks(range(len(labels)), labels, **style)


def _are_long(labels: Sequence[str]) -> bool:
    """Whether labels below the columns of a matrix would overlap unless they were turned."""
    return max(map(len, labels)) > (3 if len(labels) <= _FEW else 2)


def _draw_images(
    figure: Any,
    test: Split,
    heads: tuple[np.ndarray, np.ndarray, np.ndarray],
    names: Sequence[str],
    shown: np.ndarray,
    strokes: bool,
    are_digits: bool,
) -> None:
    noun = "digit" if are_digits else "image"
    figure.suptitle(f"{f'{noun}s' if len(shown) else f'no {noun}'} that the mask puts right")
    if not len(shown):
        return
    kinds = ("class logits alone", "retain probability", "with the mask")
    panels = figure.subplots(len(shown), 2, width_ratios=(1, 6), squeeze=False)
    for index, (picture, bars) in zip(shown, panels, strict=True):
        # Colours are drawn as they are, whatever the colour map.
        picture.imshow(test.images[index], cmap="gray_r" if strokes else "gray", vmin=0, vmax=255)
        picture.set_axis_off()
        values = [head[index] for head in heads]
        classes = _classes_of_bars(values, int(test.labels[index]))
        places = np.arange(len(classes))
        for number, (kind, value) in enumerate(zip(kinds, values, strict=True)):
            bars.bar(places + 0.28 * (number - 1), value[classes], 0.28, label=kind)
        labels = [names[number] for number in classes]
        is_long = max(map(len, labels)) > 5
        style: Any = {"rotation": 25, "ha": "right", "fontsize": 7} if is_long else {}
        if is_long:
            style["rotation_mode"] = "anchor"
        bars.set(ylim=(0, 1.05), yticks=(0, 1))
        bars.set_xticks(places, labels, parse_math=False, **style)
        true = list(classes).index(test.labels[index])
        bars.get_xticklabels()[true].set_fontweight("bold")
        if index == shown[0]:
            figure.legend(*bars.get_legend_handles_labels(), loc="outside lower center", ncols=3)


def _classes_of_bars(values: Sequence[np.ndarray], true: int) -> np.ndarray:
    """The classes to draw of an image: all of few; else the most probable, then the most retained.

    The true class is among them: the mask has made it the most probable.
    """
    softmax, retained, masked = values
    count = len(softmax)
    if count <= _MOST_BARS:
        return np.arange(count)
    probable = np.maximum(softmax, masked)
    # Unlikely classes are alike in being unlikely: which of them are retained says more.
    order = np.lexsort((-retained, -np.round(probable, 2), np.arange(count) != true))
    return order[:_MOST_BARS]
