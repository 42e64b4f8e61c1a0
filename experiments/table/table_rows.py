"""The rows of the table of methods: trained, tuned on validation data, compared and written."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dropmax_jax import METHODS
from experiments.data.datasets import Dataset
from experiments.reports import plots
from experiments.reports.published import (
    ORIGINAL_CODE_1K,
    PAPER_1K,
    PAPER_CIFAR_100,
    REPRODUCTION,
)
from experiments.reports.statistics import paired_difference
from experiments.reports.tables import cell, line, means, to_csv
from experiments.runtime.files import write_text
from experiments.train import run
from experiments.train.config import Config
from experiments.train.folder import validation_error
from experiments.train.side_by_side import Planned, Train
from experiments.train.summary import result_line

BASELINE = "softmax"
_COLUMNS = (
    *("method", "chosen", "test error, %", "minus softmax's", "p"),
    *("NLL", "ECE, %", "Brier"),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """A method's figures on one training set.

    Attributes:
        model: The method.
        hyperparameters: What validation chose, of what was tried.
        summary: The content of the run's `summary.json`.
        validation_error_percent: Mean over seeds at the end of training, by which it was chosen.
        train_seconds: What training took, with all the hyperparameters that were tried.
    """

    model: str
    hyperparameters: Mapping[str, float]
    summary: Mapping[str, Any]
    validation_error_percent: float
    train_seconds: float

    @property
    def num_train(self) -> int:
        """Training images."""
        return int(self.summary["num_train"])


def make_row(runs: Sequence[Planned], train: Train) -> Row:
    """Trains a method over its search space, unless that is done, and keeps the best run.

    The best run has the lowest mean validation error; no choice sees the test set.

    Args:
        runs: What `runs_of` gives.
        train: Trains one of them.

    Raises:
        UserError: The folder holds another run.
        RunFailedError: A run cannot go on.
    """
    rows = []
    for tried in runs:
        summary = train(*tried)
        rows.append(
            Row(
                tried.config.model,
                tried.config.hyperparameters,
                summary,
                validation_error(tried.folder),
                summary["train_seconds"],
            )
        )
    best = min(rows, key=lambda row: row.validation_error_percent)
    return dataclasses.replace(best, train_seconds=sum(row.train_seconds for row in rows))


def runs_of(config: Config, dataset: Dataset, folder: Path) -> list[Planned]:
    """A method's runs, one at each point of its search space, each in a folder of its own.

    Args:
        config: What to train, but for the hyperparameters.
        dataset: What to train, validate and test on.
        folder: Of the runs, one subfolder each.

    Raises:
        UserError: One of them cannot be made, or gone on with.
    """
    runs = []
    for tried in search_space(config.model):
        name = ",".join([config.model, *(f"{name}={value}" for name, value in tried.items())])
        own = dataclasses.replace(config, hyperparameters=tried)
        run.check_missing(own, dataset, folder / name)
        runs.append(Planned(own, dataset, folder / name))
    return runs


def search_space(model: str) -> Iterator[dict[str, float]]:
    """Every combination of a method's hyperparameters to try: one, empty, if it has none.

    >>> list(search_space("class_dropout"))
    [{'retain_probability': 0.2}, {'retain_probability': 0.4}, {'retain_probability': 0.6}]
    >>> list(search_space("softmax"))
    [{}]
    """
    choices = METHODS[model].search_space
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def describe(row: Row) -> str:
    """A row in one line, with what validation chose."""
    chosen = ", ".join(f"{name} {value:g}" for name, value in row.hyperparameters.items())
    return result_line(dict(row.summary)) + (f"; validation chose {chosen}" if chosen else "")


def write(rows: Sequence[Row], savedir: Path) -> None:
    """Writes `table.csv`, `table.md` and `table.png`."""
    records = [_record(row, _baseline(row, rows)) for row in rows]
    write_text(savedir / "table.csv", to_csv(records))
    others = tuple(rows[0].summary.get("other_tests", {}))
    write_text(savedir / "table.md", to_markdown(records, others))
    plots.table(records, savedir / "table.png")


def _baseline(row: Row, rows: Sequence[Row]) -> Row | None:
    """The softmax trained on the same data, if it is among the rows."""
    same = [other for other in rows if (other.model, other.num_train) == (BASELINE, row.num_train)]
    return same[0] if same else None


def _record(row: Row, baseline: Row | None) -> dict[str, Any]:
    """A row's figures by the names of the table's columns; missing values are NaN."""
    summary = row.summary
    record: dict[str, Any] = {
        "method": row.model,
        "network": summary["network"],
        "dataset": summary["dataset"],
        "num_train": row.num_train,
        "num_seeds": len(summary["seeds"]),
        "chosen": " ".join(f"{name}={value:g}" for name, value in row.hyperparameters.items()),
    }
    names = ("error_percent", "nll", "ece_percent", "brier")
    record |= means({name: summary[f"test_{name}"] for name in names})
    others = summary.get("other_tests", {})
    record |= means({name: found["test_error_percent"] for name, found in others.items()})
    difference = half_width = p_value = math.nan
    if baseline is not None and baseline.model != row.model:
        difference, half_width, p_value = paired_difference(
            summary["test_error_percent"], baseline.summary["test_error_percent"]
        )
    # Published figures are of MNIST and its official test set.
    published = row.num_train if summary["dataset"] == "mnist" else 0
    reproduction = dict(zip((1_000, 5_000, 55_000), REPRODUCTION.get(row.model, ()), strict=False))
    # The reproduction's 55,000 are the training images beside 5,000 for validation.
    size = 55_000 if published > 50_000 else published
    is_1k = published == 1_000
    papers: Mapping[str, float] = PAPER_1K if is_1k else {}
    if (summary["dataset"], summary["network"]) == ("cifar100", "resnet34"):
        papers = PAPER_CIFAR_100 if row.num_train >= 40_000 else {}
    return {
        **record,
        "difference": difference,
        "difference_half_width": half_width,
        "p_value": p_value,
        "paper": papers.get(row.model, math.nan),
        "reproduction": reproduction.get(size, math.nan),
        "original_code": ORIGINAL_CODE_1K.get(row.model, math.nan) if is_1k else math.nan,
        "train_seconds": row.train_seconds,
    }


def to_markdown(records: Sequence[Mapping[str, Any]], others: Sequence[str] = ()) -> str:
    """The table in Markdown, a section for each number of training examples.

    Args:
        records: Rows by the names of the columns of `table.csv`.
        others: Further test sets.
    """
    sections = []
    for (num_train, network), group in itertools.groupby(
        records, key=lambda record: (record["num_train"], record["network"])
    ):
        lines = list(group)
        minutes = sum(row["train_seconds"] for row in lines) / 60
        header = (
            f"{lines[0]['dataset']}, {network}, {num_train:,} training examples, "
            f"seeds: {lines[0]['num_seeds']}; ± is half a 95 % confidence interval; "
            f"training took {minutes:.1f} minutes, summed over the runs\n"
        )
        columns = (
            *_COLUMNS,
            *(f"{name.replace('_', ' ')}, %" for name in others),
            *("paper, %", "reproduction, %"),
        )
        table = [line(columns), line(["---"] * len(columns))]
        table += [_markdown_row(record, others) for record in lines]
        sections.append("\n".join([header, *table]))
    return "\n\n".join(sections) + "\n"


def _markdown_row(record: Mapping[str, Any], others: Sequence[str]) -> str:
    p_value = record["p_value"]
    cells = (
        f"`{record['method']}`",
        record["chosen"].replace("_", " ").replace("=", " "),
        cell(record, "error_percent"),
        cell(record, "difference", sign="+"),
        "" if math.isnan(p_value) else f"{p_value:.1g}",
        cell(record, "nll", 3),
        cell(record, "ece_percent"),
        cell(record, "brier", 3),
        *(cell(record, name) for name in others),
        cell(record, "paper"),
        cell(record, "reproduction"),
    )
    return line(cells)
