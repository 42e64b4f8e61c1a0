"""The pictures that runs draw."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.files import replacing

_NOT_LOSS_TERMS = {
    "epoch",
    "seconds",
    "train_loss",
    "train_error_percent",
    "validation_error_percent",
}


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def learning_curves(history: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draws loss and error over the epochs: the mean over seeds, and their range as a band.

    Args:
        history: the objects of `metrics.jsonl`, at least one.
        title: above the figure.
        path: of the PNG.
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
    losses.set(xlabel="epoch", ylabel="training loss (nats)")
    losses.grid(alpha=0.3)
    losses.legend()
    curve(errors, "train_error_percent", "training")
    curve(errors, "validation_error_percent", "validation")
    # The first epochs, near chance, would flatten all that follows.
    settled = np.max(history[len(history) // 10]["validation_error_percent"])
    errors.set(xlabel="epoch", ylabel="error (%)", ylim=(0, min(100, max(1, 1.5 * settled))))
    errors.grid(alpha=0.3)
    errors.legend()
    save(figure, path)
