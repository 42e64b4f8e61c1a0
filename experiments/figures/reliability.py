"""Reliability diagrams of a run, or of two."""

from collections.abc import Sequence

from experiments.calibration.diagrams import draw_reliability
from experiments.calibration.measures import NUM_BINS, measure_predictions
from experiments.calibration.predictions import Predictions
from experiments.figures.subject import Drawn, Subject, names_of
from experiments.reports.tables import cell, means


def draw(subjects: Sequence[Subject]) -> Drawn | str:
    """Draws them side by side."""
    labels = subjects[0].data.test.labels
    measured = {
        name: measure_predictions(Predictions(subject.log_probs), labels, {})
        for name, subject in zip(names_of(subjects), subjects, strict=True)
    }
    numbers = [
        f"{name} {cell(means(found.figures), 'ece_percent')} %" for name, found in measured.items()
    ]
    has_spread = any(len(subject.run.seeds) > 1 for subject in subjects)
    note = "; ± is half a 95 % interval over seeds" if has_spread else ""
    return Drawn(
        draw_reliability({subjects[0].run.config.dataset: measured}),
        f"Accuracy over confidence, in {NUM_BINS} bins of equal width, and below it the share of "
        "the test images in each bin; the predictions of all seeds are counted together. Bars that "
        "end at the dashed line are calibrated. The expected calibration error is the gap, "
        f"averaged over the images: {', '.join(numbers)}{note}.",
    )
