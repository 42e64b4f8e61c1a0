"""Reliability diagrams of a run, or of two."""

from collections.abc import Sequence

from experiments.calibration.diagrams import draw_reliability
from experiments.calibration.measures import NUM_BINS, measure_predictions
from experiments.calibration.predictions import Predictions
from experiments.figures.subject import Drawn, Subject, names_of
from experiments.reports.statistics import mean_and_half_width


def draw(subjects: Sequence[Subject]) -> Drawn | str:
    """Draws them side by side."""
    labels = subjects[0].data.test.labels
    measured = {
        name: measure_predictions(Predictions(subject.log_probs), labels, {})
        for name, subject in zip(names_of(subjects), subjects, strict=True)
    }
    numbers = []
    for name, found in measured.items():
        mean, half_width = mean_and_half_width(found.figures["ece_percent"])
        spread = "" if half_width != half_width else f" ± {half_width:.2f}"
        numbers.append(f"{name} {mean:.2f}{spread} %")
    return Drawn(
        draw_reliability({subjects[0].run.config.dataset: measured}),
        f"Accuracy over confidence, in {NUM_BINS} bins of equal width, and below it the share of "
        "the test images in each bin; the predictions of all seeds are counted together. Bars that "
        "end at the dashed line are calibrated. The expected calibration error is the gap, "
        f"averaged over the images: {', '.join(numbers)}; ± is half a 95 % interval over seeds.",
    )
