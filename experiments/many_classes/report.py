"""The tables and the picture of the comparison."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.many_classes.comparison import FIGURES, METHODS, Row
from experiments.reports.drawing import Figure, in_own_style, save
from experiments.reports.statistics import paired_difference
from experiments.reports.tables import Record, cell, line, means, to_csv
from experiments.runtime.files import write_text

COMPARED = "dropmax_balanced"
_COLUMNS = (
    *("method", "dropout", "error, %", "NLL", "ECE, %"),
    *("error, p", "NLL, p", "minutes"),
)
_NOTES = f"""\
± is half a 95 % confidence interval over seeds; p is of a paired test against `{COMPARED}`, two
sided. Validation chose the dropout of each method, 0 or 0.5. `temperature_scaling` is the `softmax`
of the line above it, `mc_dropout` the mean of 50 passes of the softmax that was trained with
dropout 0.5; so their minutes are contained in the softmax's.
"""
_ALIKE = {
    "group_error_percent": "outside of the group, %",
    "largest_share_percent": "largest share, %",
    "fair_share_percent": "fair share, %",
    "excess_nats": "excess, nats",
}
_ALIKE_NOTES = """\
Of the test images whose letter has a double that every face of training draws alike, such as Latin
and Greek A: how often the prediction is outside of that group; the largest of the group's
probabilities by their sum, which is to be the fair share, one by the number of doubles; and by how
much the cross-entropy within the group exceeds that of fair shares.
"""
_SERVED = [method for method, model in METHODS.items() if method != model]
_MARKERS = dict(zip(METHODS, "o^vsDP", strict=True))


def write(rows: Sequence[Row], savedir: Path) -> None:
    """Writes `many_classes.csv`, `many_classes.md` and `many_classes.png`."""
    records = [record for row in rows for record in _records(row, rows)]
    write_text(savedir / "many_classes.csv", to_csv(records))
    write_text(savedir / "many_classes.md", to_markdown(rows, records))
    _draw(records, savedir / "many_classes.png")


def _records(row: Row, rows: Sequence[Row]) -> list[Record]:
    """A row's figures on each test set, by the names of the columns of the CSV file."""
    (compared,) = (
        other
        for other in rows
        if (other.task, other.num_epochs, other.method) == (row.task, row.num_epochs, COMPARED)
    )
    records: list[Record] = []
    for test, figures in row.tests.items():
        record: dict[str, Any] = {
            "task": row.task,
            "num_classes": row.num_classes,
            "num_epochs": row.num_epochs,
            "test": test,
            "method": row.method,
            "dropout_rate": row.dropout_rate,
            "num_seeds": len(figures["nll"]),
            **means({name: figures[name] for name in FIGURES}),
        }
        for name in ("error_percent", "nll"):
            difference = half_width = p_value = math.nan
            if row is not compared:
                difference, half_width, p_value = paired_difference(
                    figures[name], compared.tests[test][name]
                )
            record |= {
                f"{name}_difference": difference,
                f"{name}_difference_half_width": half_width,
                f"{name}_p_value": p_value,
            }
        records.append({**record, "train_seconds": row.train_seconds})
    return records


def to_markdown(rows: Sequence[Row], records: Sequence[Record]) -> str:
    """A table for each task, length and test set."""
    seconds = sum(row.train_seconds for row in rows if row.method not in _SERVED)
    device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    minutes = f"{seconds / 60:.0f} minutes, summed over the runs"
    parts = [_NOTES, f"All training took {minutes}, on {device}.\n"]
    groups: dict[tuple[str, int, str], list[Record]] = {}
    for record in records:
        key = record["task"], record["num_epochs"], record["test"]
        groups.setdefault(key, []).append(record)
    for (task, num_epochs, test), group in groups.items():
        parts.append(f"## {task}, {num_epochs} epochs, {test}, {group[0]['num_seeds']} seeds\n")
        table = [line(_COLUMNS), line(["---"] * len(_COLUMNS))]
        parts.append("\n".join([*table, *map(_markdown_row, group)]) + "\n")
    return "\n".join([*parts, *_alike(rows)])


def _alike(rows: Sequence[Row]) -> list[str]:
    """How probability is shared among classes that are drawn alike, of the rows that have any."""
    doubled = [row for row in rows if row.alike]
    if not doubled:
        return []
    columns = ("task", "epochs", "method", *_ALIKE.values())
    lines = [line(columns), line(["---"] * len(columns))]
    for row in doubled:
        record = means(row.alike)
        cells = (cell(record, name, 3 if name == "excess_nats" else 2) for name in _ALIKE)
        lines.append(line((row.task, str(row.num_epochs), f"`{row.method}`", *cells)))
    return ["## Letters that are drawn alike\n", _ALIKE_NOTES, "\n".join(lines) + "\n"]


def _markdown_row(record: Record) -> str:
    served = record["method"] in _SERVED
    return line(
        (
            f"`{record['method']}`",
            f"{record['dropout_rate']:g}",
            cell(record, "error_percent"),
            cell(record, "nll", 3),
            cell(record, "ece_percent"),
            *(_p_value(record[f"{name}_p_value"]) for name in ("error_percent", "nll")),
            "" if served else f"{record['train_seconds'] / 60:.1f}",
        )
    )


def _p_value(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1g}"


@in_own_style
def _draw(records: Sequence[Record], path: Path) -> None:
    """Error and NLL against the number of classes, of the tasks that are drawn from glyphs."""
    glyphs = [record for record in records if record["task"].startswith("glyphs")]
    if not glyphs:
        return
    lengths: dict[str, list[int]] = {}
    for record in glyphs:
        epochs = lengths.setdefault(record["task"], [])
        if record["num_epochs"] not in epochs:
            epochs.append(record["num_epochs"])
    tests = list(dict.fromkeys(record["test"] for record in glyphs))
    columns = list(itertools.product(tests, range(max(map(len, lengths.values())))))
    figure = Figure(figsize=(4 * len(columns), 7.5), layout="constrained")
    panels = figure.subplots(2, len(columns), squeeze=False, sharex=True, sharey="row")
    for column, (test, length) in enumerate(columns):
        shown = [
            record
            for record in glyphs
            if record["test"] == test
            and lengths[record["task"]].index(record["num_epochs"]) == length
        ]
        for axes, figure_name in zip(panels[:, column], ("error_percent", "nll"), strict=True):
            _curves(axes, shown, figure_name)
            axes.grid(alpha=0.3)
        times = "" if not length else ", four times as long"
        panels[0, column].set(title=f"{test}{times}")
        panels[1, column].set(xlabel="classes")
    panels[0, 0].set(ylabel="error (%)", ylim=(0, None))
    # Where all validation images are right, the best temperature is 0, and the NLL beyond all.
    most = max(record["nll"] for record in glyphs if record["method"] != "temperature_scaling")
    panels[1, 0].set(ylabel="NLL (nats)", ylim=(0, 1.1 * most))
    panels[0, 0].legend(fontsize="small")
    save(figure, path)


def _curves(axes: Any, records: Sequence[Record], name: str) -> None:
    sizes = sorted({record["num_classes"] for record in records})
    for method, marker in _MARKERS.items():
        mine = sorted(
            (record for record in records if record["method"] == method),
            key=lambda record: record["num_classes"],
        )
        axes.errorbar(
            [record["num_classes"] for record in mine],
            [record[name] for record in mine],
            yerr=np.nan_to_num([record[f"{name}_half_width"] for record in mine]),
            marker=marker,
            capsize=2,
            linewidth=2 if method == COMPARED else 1,
            label=method,
        )
    axes.set_xscale("log")
    axes.minorticks_off()
    if sizes:
        axes.set_xticks(sizes, list(map(str, sizes)))
