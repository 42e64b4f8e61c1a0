"""The pictures that runs draw."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data.split import Split
from experiments.reports import masks_plot
from experiments.reports.drawing import Figure, in_own_style, save

_NOT_LOSS_TERMS = {
    "epoch",
    "seconds",
    "train_loss",
    "train_error_percent",
    "validation_error_percent",
}


@in_own_style
def learning_curves(history: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draws loss and error over the epochs: the mean over seeds, and their range as a band.

    Args:
        history: The objects of `metrics.jsonl`, at least one.
        title: Above the figure.
        path: Of the PNG.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, errors = figure.subplots(1, 2)
    figure.suptitle(title)
    epochs = [entry["epoch"] for entry in history]

    def curve(axes: Any, name: str, label: str, color: str | None = None) -> None:
        values = np.array([np.atleast_1d(entry[name]) for entry in history]).T
        (line,) = axes.plot(epochs, values.mean(0), label=label, color=color)
        color = line.get_color()
        axes.fill_between(epochs, values.min(0), values.max(0), color=color, alpha=0.2, lw=0)

    terms = [name for name in history[0] if name not in _NOT_LOSS_TERMS]
    curve(losses, "train_loss", "loss", "black")
    # A single term is the loss itself.
    for name in terms if len(terms) > 1 else []:
        curve(losses, name, name.replace("_", " "))
    losses.set(xlabel="epoch", ylabel="training loss")
    losses.grid(alpha=0.3)
    losses.legend(loc="center right")
    curve(errors, "train_error_percent", "training")
    curve(errors, "validation_error_percent", "validation")
    # The first epochs, near chance, would flatten all that follows.
    settled = np.max(history[len(history) // 10]["validation_error_percent"])
    errors.set(xlabel="epoch", ylabel="error (%)", ylim=(0, min(100, max(1, 1.5 * settled))))
    errors.grid(alpha=0.3)
    errors.legend()
    save(figure, path)


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
    figure = masks_plot.draw(test, retained, softmax, masked, names, shown, strokes)
    with warnings.catch_warnings():
        # A name may have letters of scripts that the font lacks; it draws boxes for them.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        save(figure, path)


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
