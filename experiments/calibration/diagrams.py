"""The pictures of the calibration experiment."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.calibration.measures import COVERAGE_PERCENT, Measurement, Measurements
from experiments.reports.drawing import OKABE_ITO, Figure, in_own_style, save
from experiments.reports.statistics import mean_and_half_width

_GAPS: dict[str, Any] = {
    "overconfident": {"color": OKABE_ITO["vermillion"]},
    "underconfident": {"color": OKABE_ITO["yellow"], "hatch": "////", "edgecolor": "black"},
}
_BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
_LINE_STYLES = {"predictive_entropy": "-", "mutual_information": "--"}


@in_own_style
def reliability_diagrams(measured: Measurements, path: Path) -> None:
    """Writes the figure of `draw_reliability` as a PNG."""
    save(draw_reliability(measured), path)


def draw_reliability(measured: Measurements) -> Figure:
    """Draws, for each variant and method, accuracy over confidence and how often each occurs.

    Args:
        measured: By the variant of the images, and by the method.
    """
    methods = list(next(iter(measured.values())))
    num_rows, num_columns = len(measured), len(methods)
    size = (2.5 * num_columns + 0.5, 3.3 * num_rows + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(
        2 * num_rows,
        num_columns,
        squeeze=False,
        sharex=True,
        gridspec_kw={"height_ratios": [3, 1] * num_rows},
    )
    for row, (images, of_method) in enumerate(measured.items()):
        for column, (method, measurement) in enumerate(of_method.items()):
            diagram, histogram = grid[2 * row : 2 * row + 2, column]
            _reliability_diagram(diagram, measurement)
            _histogram(histogram, measurement)
            if row == 0:
                diagram.set_title(method.replace("_", " "), fontsize="medium")
            if row == num_rows - 1:
                histogram.set_xlabel("confidence")
            # The panels of a row share their scale: only the first shows its numbers.
            for axes in (diagram, histogram):
                axes.tick_params(labelleft=column == 0)
            if column == 0:
                diagram.set_ylabel(f"{images.replace('_', ' ')}\naccuracy")
                histogram.set_ylabel("share")
    legend = grid[0, 0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside upper center", ncols=3, fontsize="small")
    return figure


def _reliability_diagram(axes: Any, measurement: Measurement) -> None:
    counts, confidence, accuracy = (
        np.asarray(measurement.bins[name]) for name in ("counts", "confidence", "accuracy")
    )
    width, filled = 1 / len(counts), counts > 0
    middles = (np.arange(len(counts)) + 0.5) * width
    lower = np.minimum(accuracy, confidence)
    axes.bar(middles, lower, width, color="lightsteelblue", edgecolor="white")
    for name, style in _GAPS.items():
        gap = confidence - accuracy if name == "overconfident" else accuracy - confidence
        axes.bar(middles, np.maximum(gap, 0), width, lower, label=name, lw=0, **style)
    edges = middles[filled] - width / 2, middles[filled] + width / 2
    axes.hlines(accuracy[filled], *edges, color="black", lw=1.5, label="accuracy")
    axes.plot([0, 1], [0, 1], "--", color="grey", lw=1)
    mean, half_width = mean_and_half_width(measurement.figures["ece_percent"])
    spread = "" if np.isnan(half_width) else f" ± {half_width:.2f}"
    axes.text(
        0.04,
        0.9,
        f"ECE {mean:.2f}{spread} %",
        transform=axes.transAxes,
        fontsize="small",
        bbox=_BOX,
    )
    axes.set(xlim=(0, 1), ylim=(0, 1))


def _histogram(axes: Any, measurement: Measurement) -> None:
    counts = np.asarray(measurement.bins["counts"])
    middles = (np.arange(len(counts)) + 0.5) / len(counts)
    axes.bar(middles, counts / counts.sum(), 1 / len(counts), color="grey", edgecolor="white")
    axes.set(ylim=(0, 1), yticks=(0, 1))


@in_own_style
def detection(measured: Measurements, path: Path) -> None:
    """Draws, for each variant, risk-coverage curves and how well each score detects what.

    Args:
        measured: By the variant of the images, and by the method.
        path: Of the PNG.
    """
    figure = Figure(figsize=(12, 3.4 * len(measured) + 0.8), layout="constrained")
    grid = figure.subplots(len(measured), 2, squeeze=False, width_ratios=(1, 1.3))
    for (curves, points), (images, of_method) in zip(grid, measured.items(), strict=True):
        scores = [
            (method, name, score, f"C{color}")
            for color, (method, measurement) in enumerate(of_method.items())
            for name, score in measurement.scores.items()
        ]
        for place, (method, name, score, color) in enumerate(scores):
            label = f"{method}, {name}".replace("_", " ")
            style = _LINE_STYLES[name]
            curves.plot(COVERAGE_PERCENT, score.risk_percent, style, color=color, label=label)
            means, half_widths = zip(*map(mean_and_half_width, score.auroc.values()), strict=True)
            points.errorbar(
                np.arange(len(means)) + 0.1 * (place - (len(scores) - 1) / 2),
                means,
                np.nan_to_num(half_widths),
                fmt="o" if name == "predictive_entropy" else "D",
                mfc=color if name == "predictive_entropy" else "white",
                color=color,
                ms=4,
                capsize=2,
            )
        curves.set(ylabel=f"{images.replace('_', ' ')}\nerror among those kept (%)")
        curves.set(xlim=(0, 100), ylim=(0, None))
        kinds = list(scores[0][2].auroc)
        points.set(ylabel="AUROC", xticks=range(len(kinds)))
        points.set_xticklabels([kind.replace("errors", "own errors") for kind in kinds])
        # An interval may reach beyond what the area can be.
        low, high = points.get_ylim()
        points.set_ylim(max(low, 0), min(high, 1.02))
        points.axhline(0.5, color="grey", ls=":", lw=1)
        for axes in (curves, points):
            axes.grid(alpha=0.3)
    grid[-1, 0].set_xlabel("predictions kept, surest first (%)")
    grid[-1, 1].set_xlabel("what is detected")
    figure.legend(
        *grid[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=4,
        fontsize="small",
    )
    save(figure, path)
