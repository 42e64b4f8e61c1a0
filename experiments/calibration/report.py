"""The tables that the calibration experiment writes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.calibration.measures import NUM_BINS, Measurement, Measurements
from experiments.calibration.predictions import NUM_SAMPLES
from experiments.data.datasets import Dataset
from experiments.data.forms.variants import UNFAMILIAR
from experiments.reports.published import PAPER_CALIBRATION
from experiments.reports.tables import cell, line, means, to_csv
from experiments.runtime.files import write_text
from experiments.train.config import Config

_CALIBRATION_COLUMNS = {
    "error_percent": ("test error, %", 2),
    "nll": ("NLL", 3),
    "ece_percent": ("ECE, %", 2),
    "adaptive_ece_percent": ("adaptive ECE, %", 2),
    "brier": ("Brier", 3),
    "paper_error_percent": ("paper's error, %", 2),
    "paper_ece_percent": ("paper's ECE, %", 2),
}

_DETECTION_COLUMNS = {
    "errors_auroc": ("own errors", 3),
    "aurc_percent": ("area under risk-coverage, %", 2),
    **{f"{kind}_auroc": (kind, 3) for kind in UNFAMILIAR},
}

_CALIBRATION_NOTES = f"""\
NLL is in nats; ECE has {NUM_BINS} bins of equal width, adaptive ECE {NUM_BINS} of equal mass.
`temperature_scaling` divides the logits of `softmax` by a temperature fitted on validation data,
`dropmax` uses the mean mask, `mc_dropout` and `dropmax_monte_carlo` average the probabilities of
{NUM_SAMPLES} samples.

`background_random` is mnist-back-rand of Larochelle et al. 2007: each pixel is the maximum of the
image's and of a value drawn uniformly from 0 to 255. `background_rotation` is the same over images
that are first turned by angles drawn uniformly from 0 to 2π. Both are made here, so the images are
not the very ones of the paper. If the paper's "background rotation" is mnist-rot-back of
Larochelle et al., whose backgrounds are patches of photographs, its figures there are of another
setup: they stand beside ours for orientation, not for comparison.
"""

_DETECTION_NOTES = """\
All but the area are AUROC: the probability that a random image to be detected scores higher than a
random other one; 0.5 is chance. Own errors are told from right predictions on the test set,
unfamiliar images from the test set: its images turned by 90°, or by 180° if they are not square
(rotated), with each pixel
replaced by uniform noise with probability 1/2 (noisy), in negative (inverted), and with the pixels
in a random order, another for each image (scrambled). To models trained on `background_rotation`,
rotated digits are not unfamiliar. The area under the risk-coverage curve is the error rate among
the surest predictions, averaged over how many are kept: less is better.
"""


def write(measured: Measurements, config: Config, dataset: Dataset, savedir: Path) -> None:
    """Writes `calibration.csv`, `calibration.md`, `detection.csv` and `detection.md`.

    Args:
        measured: At least one variant with at least one method.
        config: Of one of the runs.
        dataset: One of the variants.
        savedir: A folder that exists.
    """
    header = (
        f"{dataset.name}, {config.network}, {len(dataset.train.labels):,} training images, "
        f"{len(dataset.test.labels):,} test images, {config.num_epochs} epochs, "
        f"{len(config.seeds)} seeds; ± is half a 95 % confidence interval.\n"
    )
    is_papers = dataset.name == "mnist" and len(dataset.train.labels) == 1000
    calibration = calibration_records(measured, PAPER_CALIBRATION if is_papers else {})
    detection = detection_records(measured)
    for name, records, columns, notes in (
        ("calibration", calibration, _CALIBRATION_COLUMNS, _CALIBRATION_NOTES),
        ("detection", detection, _DETECTION_COLUMNS, _DETECTION_NOTES),
    ):
        write_text(savedir / f"{name}.csv", to_csv(records))
        table = to_markdown(records, columns)
        write_text(savedir / f"{name}.md", "\n".join([header, table, notes]))


def calibration_records(
    measured: Measurements, reported: Mapping[tuple[str, str], Mapping[str, float]]
) -> list[dict[str, Any]]:
    """The rows of `calibration.csv`; missing values are NaN.

    Args:
        measured: By the variant of the images, and by the method.
        reported: What others report of a variant and method.
    """
    records = []
    for images, method, measurement in _each(measured):
        paper = reported.get((images, method), {})
        records.append(
            {
                "images": images,
                "method": method,
                "num_seeds": len(measurement.figures["error_percent"]),
                **means(measurement.figures),
                "paper_error_percent": paper.get("error_percent", math.nan),
                "paper_ece_percent": paper.get("ece_percent", math.nan),
            }
        )
    return records


def detection_records(measured: Measurements) -> list[dict[str, Any]]:
    """The rows of `detection.csv`; missing values are NaN."""
    return [
        {
            "images": images,
            "method": method,
            "score": name,
            "num_seeds": len(score.aurc_percent),
            **means({"errors_auroc": score.auroc["errors"], "aurc_percent": score.aurc_percent}),
            **means({f"{kind}_auroc": score.auroc[kind] for kind in UNFAMILIAR}),
        }
        for images, method, measurement in _each(measured)
        for name, score in measurement.scores.items()
    ]


def to_markdown(
    records: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, int]]
) -> str:
    """A table in Markdown.

    Args:
        records: Rows, by the names of columns; with `X_half_width` beside `X` where there is one.
        columns: For each name, what stands above the column, and digits after the point. Columns
            of text come first, and need not be named.
    """
    texts = [name for name, value in records[0].items() if isinstance(value, str)]
    heads = [*texts, *(head for head, _ in columns.values())]
    lines = [line(heads), line(["---"] * len(heads))]
    for record in records:
        cells = [record[name] for name in texts]
        cells[1] = f"`{cells[1]}`"
        lines.append(line(cells + [cell(record, name, columns[name][1]) for name in columns]))
    return "\n".join(lines) + "\n"


def _each(measured: Measurements) -> Iterable[tuple[str, str, Measurement]]:
    for images, methods in measured.items():
        for method, measurement in methods.items():
            yield images, method, measurement
