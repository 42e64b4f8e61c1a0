"""The pictures that runs draw."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data.split import Split
from experiments.reports import masks_plot
from experiments.reports.drawing import OKABE_ITO, Figure, in_own_style, save
from experiments.train.steps.training import METRICS


@in_own_style
def learning_curves(history: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draws loss and error over the epochs: the mean over seeds, and their range as a band.

    Args:
        history: The objects of `metrics.jsonl`, at least one.
        title: Above the figure.
        path: Of the PNG.
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    losses, errors = figure.subplots(1, 2)
    figure.suptitle(title)

    def curve(axes: Any, name: str, label: str, color: str, style: str = "-") -> None:
        draw_curve(axes, history, name, label=label, color=OKABE_ITO[color], ls=style)

    terms = [name for name in history[0] if name not in METRICS]
    curve(losses, "train_loss", "loss", "black")
    # A single term is the loss itself.
    styles = itertools.cycle([("blue", "--"), ("orange", "-."), ("green", ":"), ("purple", "-")])
    for name, style in zip(terms if len(terms) > 1 else [], styles, strict=False):
        curve(losses, name, name.replace("_", " "), *style)
    losses.set(xlabel="epoch", ylabel="training loss")
    curve(errors, "train_error_percent", "training", "blue", "--")
    name = "validation_error_percent"
    curve(errors, name, "validation", "orange")
    # The first epochs, near chance, would flatten all that follows.
    settled = next(np.max(entry[name]) for entry in history[len(history) // 10 :] if name in entry)
    errors.set(xlabel="epoch", ylabel="error (%)", ylim=(0, min(100, max(1, 1.5 * settled))))
    for axes in (losses, errors):
        axes.grid(alpha=0.3)
        # Below, where no curve can be.
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False)
    save(figure, path)


def draw_curve(
    axes: Any, history: Sequence[Mapping[str, Any]], name: str, **style: Any
) -> np.ndarray:
    """Draws a metric over the epochs that have it: the mean over seeds, their range as a band.

    Args:
        axes: Where to draw.
        history: The objects of `metrics.jsonl`.
        name: Of the metric.
        style: Of matplotlib's lines; with a color.

    Returns:
        The values, `[seeds, epochs]`.
    """
    entries = [entry for entry in history if name in entry]
    values = np.array([np.atleast_1d(entry[name]) for entry in entries]).T
    epochs = [entry["epoch"] for entry in entries]
    axes.plot(epochs, values.mean(0), **style)
    axes.fill_between(epochs, values.min(0), values.max(0), color=style["color"], alpha=0.2, lw=0)
    return values


@in_own_style
def masks(
    test: Split,
    retained: np.ndarray,
    softmax: np.ndarray,
    masked: np.ndarray,
    path: Path,
    class_names: Sequence[str] | None = None,
    strokes: bool = True,
) -> None:
    """Draws which classes a model retains and confuses, on average and for confusing images.

    Args:
        test: The images and labels.
        retained: Retain probabilities `[N, K]`.
        softmax: Probabilities by the class logits alone, `[N, K]`.
        masked: The model's probabilities, with the mean mask, `[N, K]`.
        path: Of the PNG.
        class_names: In the order of the labels; None for numbers.
        strokes: Whether the images show light strokes, which are drawn as dark ink.
    """
    names = class_names or [str(number) for number in range(retained.shape[-1])]
    shown = saved_by_mask(test.labels, softmax, masked)[:4]
    save(masks_plot.draw(test, retained, softmax, masked, names, shown, strokes), path)


def saved_by_mask(labels: np.ndarray, softmax: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """The images that are wrong by the logits alone and right with the mask, the surest first.

    Args:
        labels: `[N]`.
        softmax: Probabilities by the class logits alone, `[N, K]`.
        masked: Probabilities with the mean mask, `[N, K]`.

    Returns:
        Indices of images.
    """
    (saved,) = np.nonzero((softmax.argmax(-1) != labels) & (masked.argmax(-1) == labels))
    true = saved, labels[saved]
    return saved[np.argsort(softmax[true] - masked[true], kind="stable")]


@in_own_style
def table(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws the table of methods: error and its interval, a panel for each training set.

    Args:
        records: Rows by the names of the columns of `table.csv`.
        path: Of the PNG.
    """
    groups: dict[int, list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["num_train"], []).append(record)
    tallest = max(map(len, groups.values()))
    figure = Figure(figsize=(2 + 5 * len(groups), 1.6 + 0.35 * tallest), layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, (num_train, group) in zip(panels, groups.items(), strict=True):
        rows = np.arange(len(group))
        errors = [record["error_percent"] for record in group]
        spread = np.nan_to_num([record["error_percent_half_width"] for record in group])
        axes.errorbar(errors, rows, xerr=spread, fmt="o", capsize=3, label="ours, 95 % interval")
        others = {"paper": "x", "reproduction": "+", "original_code": "d"}
        for name, marker in others.items():
            values = np.array([record[name] for record in group])
            if np.isfinite(values).any():
                axes.plot(
                    values,
                    rows,
                    marker,
                    color="grey",
                    fillstyle="none",
                    markersize=9,
                    label=name.replace("_", " "),
                )
        axes.set(
            title=f"{num_train:,} training examples, {group[0]['network']}",
            xlabel="test error (%)",
            yticks=rows,
            yticklabels=[record["method"] for record in group],
        )
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
        axes.legend(fontsize="small")
    save(figure, path)
