"""The cross-entropy on training and test images in the course of training."""

from collections.abc import Sequence

import numpy as np

from experiments.figures.subject import Drawn, Subject, names_of
from experiments.reports.drawing import OKABE_ITO, Figure
from experiments.reports.plots import draw_curve
from experiments.train.record import MOST_TRAIN

_COLORS = OKABE_ITO["blue"], OKABE_ITO["vermillion"]
_MARKERS = "o", "s"


def draw(subjects: Sequence[Subject]) -> Drawn | str:
    """Draws one run, or two side by side."""
    # A run that is interrupted before its first epoch has no metrics at all.
    recorded = [any("test_nll" in entry for entry in subject.history) for subject in subjects]
    names = names_of(subjects)
    if not all(recorded):
        lacking = [name for name, has in zip(names, recorded, strict=True) if not has]
        verb = "have" if len(lacking) > 1 else "has"
        return f"{' and '.join(lacking)} {verb} no test loss by epoch: train with --record_test"
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    numbers = []
    for subject, name, color, marker in zip(subjects, names, _COLORS, _MARKERS, strict=False):
        style = {"color": color, "marker": marker, "ms": 4}
        draw_curve(
            axes,
            subject.history,
            "train_nll",
            label=f"{name}, training",
            ls="--",
            **style,
            mfc="white",
        )
        test = draw_curve(axes, subject.history, "test_nll", label=f"{name}, test", **style)
        train = [entry["train_nll"] for entry in subject.history if "train_nll" in entry]
        epochs = [entry["epoch"] for entry in subject.history if "test_nll" in entry]
        best = int(test.mean(0).argmin())
        numbers.append(
            f"{name} ends at {np.mean(train[-1]):.2g} nats on training images and "
            f"{test[:, -1].mean():.3f} on test images, where it had its least, "
            f"{test[:, best].mean():.3f}, after epoch {epochs[best]}"
        )
    axes.set(xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
    axes.grid(alpha=0.3, which="both", lw=0.5)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    size = len(subjects[0].data.train.labels)
    which = f"{MOST_TRAIN:,} of the training images" if size > MOST_TRAIN else "training images"
    return Drawn(
        figure,
        f"The cross-entropy on {which} (dashed, open markers) and test images (solid, filled "
        "markers) after epochs of training, on a logarithmic scale: means over the seeds, and "
        "their range as a band. Both are of the prediction at test time, without dropout and with "
        "the mean of the mask, so neither is the term of the training loss, whose mask is drawn "
        f"and knows the label. {'; '.join(numbers)}.",
    )
