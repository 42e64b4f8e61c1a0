"""The picture of the classes that a model retains, confuses, and puts right with its mask.

It stays readable with hundreds of classes: it shows those that are confused most often.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.data.split import Split
from experiments.reports.class_matrices import (
    INCHES_OF_CLASS,
    are_long,
    chosen_classes,
    class_means,
    confusion_counts,
    draw_off_diagonal,
    row_percent,
)
from experiments.reports.drawing import OKABE_ITO, Figure
from experiments.reports.examples import classes_of_bars, draw_image, name_bars
from experiments.reports.tables import shortened

_STYLES: tuple[Any, ...] = (
    {"color": OKABE_ITO["sky blue"]},
    {"color": OKABE_ITO["orange"], "hatch": "////", "lw": 0},
    {"color": OKABE_ITO["blue"]},
)


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
    is_long = are_long([names[number] for number in classes])
    side = max(3.4, INCHES_OF_CLASS * len(classes)) + is_long
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
    labels = [names[number] for number in classes]
    draw_off_diagonal(retains, average[rows], labels, digits=2)
    # Rare confusions would not be seen beside frequent ones on a linear scale.
    draw_off_diagonal(confuses, row_percent(confusions)[rows], labels, digits=0, log=True)
    for axes, title, across in (
        (retains, "mean retain probability", "class"),
        (confuses, "% of a class predicted as", "predicted class"),
    ):
        axes.set(title=title, xlabel=across, ylabel=f"true {noun}")


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
        draw_image(picture, test.images[index], strokes)
        true = int(test.labels[index])
        softmax, retained, masked = values = [head[index] for head in heads]
        classes = classes_of_bars(np.maximum(softmax, masked), retained, true)
        places = np.arange(len(classes))
        for number, (kind, value) in enumerate(zip(kinds, values, strict=True)):
            place, style = places + 0.28 * (number - 1), _STYLES[number]
            bars.bar(place, value[classes], 0.28, label=kind, edgecolor="white", **style)
        name_bars(bars, names, classes, true)
        if index == shown[0]:
            figure.legend(*bars.get_legend_handles_labels(), loc="outside lower center", ncols=3)
