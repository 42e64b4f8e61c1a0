"""Trains methods on one task, chooses their dropout on validation data, and tests them."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import trained
from experiments.data import datasets
from experiments.data.datasets import Dataset
from experiments.many_classes import alike
from experiments.many_classes.tasks import LENGTHS, Task, config_of
from experiments.reports.statistics import mean_and_half_width
from experiments.train import evaluation, run
from experiments.train.config import Config
from experiments.train.folder import validation_error
from experiments.train.side_by_side import Planned, Train
from experiments.train.steps.setup import make_setup

METHODS = {
    "softmax": "softmax",
    "temperature_scaling": "softmax",
    "label_smoothing": "label_smoothing",
    "mc_dropout": "softmax",
    "dropmax": "dropmax",
    "dropmax_balanced": "dropmax_balanced",
}
"""In the order of the tables, with what is trained for each."""
DROPOUT_RATES = (0.0, 0.5)
FIGURES = evaluation.Metrics._fields


class Row(NamedTuple):
    """A method's figures on one task after one length of training.

    Attributes:
        dropout_rate: What validation chose.
        tests: For each test set, a value per seed for each of `FIGURES`.
        train_seconds: Of all that was trained to choose from.
        alike: A value per seed for each figure of `alike.measure`, of the images of the last test
            set whose class has a double; none if no class has.
    """

    task: str
    num_classes: int
    num_epochs: int
    method: str
    dropout_rate: float
    tests: Mapping[str, Mapping[str, list[float]]]
    train_seconds: float
    alike: Mapping[str, list[float]]


class _Trained(NamedTuple):
    config: Config
    folder: Path
    validation_error_percent: float
    train_seconds: float


def runs_of(task: Task, num_seeds: int, data: Dataset, folder: Path) -> list[Planned]:
    """The runs of a task; raises `UserError` if one cannot be made, or gone on with."""
    runs = {}
    for length in LENGTHS:
        for method in METHODS:
            for each in _candidates(task, length, num_seeds, method, data, folder):
                run.check_missing(*each)
                # Some methods share a run.
                runs[each.folder] = each
    return list(runs.values())


def compare(
    task: Task,
    length: int,
    num_seeds: int,
    data: Dataset,
    folder: Path,
    train: Train,
    say: Callable[[str], None],
) -> list[Row]:
    """The rows of one task after one length of training; trains what is missing.

    Args:
        task: What to train on.
        length: By which its number of epochs is multiplied.
        num_seeds: Models of each method.
        data: Of the task.
        folder: Of the runs.
        train: Trains one of them.
        say: Told of each row.

    Raises:
        RunFailedError: A run cannot go on.
        Stopped: A signal asked to stop; the state is saved.
    """
    rows = []
    for method in METHODS:
        candidates = _candidates(task, length, num_seeds, method, data, folder)
        tried = [_trained(each, train) for each in candidates]
        best = min(tried, key=lambda found: found.validation_error_percent)
        config = dataclasses.replace(best.config, model=method)
        tests, doubles = _test(task, config, data, best.folder)
        row = Row(
            data.name,
            len(data.class_names),
            config.num_epochs,
            method,
            config.dropout_rate or 0.0,
            tests,
            sum(found.train_seconds for found in tried),
            doubles,
        )
        say(_describe(row))
        rows.append(row)
    return rows


def _candidates(
    task: Task, length: int, num_seeds: int, method: str, data: Dataset, folder: Path
) -> Iterator[Planned]:
    """The runs among which validation chooses for a method."""
    model = METHODS[method]
    for rate in DROPOUT_RATES:
        if method == "mc_dropout" and not rate:
            continue  # All samples would be the same.
        config = config_of(task, length, num_seeds, model=model, dropout_rate=rate)
        own = folder / f"{config.num_epochs}_epochs" / f"{model},dropout_rate={rate:g}"
        yield Planned(datasets.configured(config, data), data, own)


def _trained(planned: Planned, train: Train) -> _Trained:
    summary = train(*planned)
    error = validation_error(planned.folder)
    return _Trained(planned.config, planned.folder, error, summary["train_seconds"])


def _test(
    task: Task, config: Config, data: Dataset, folder: Path
) -> tuple[dict[str, dict[str, list[float]]], dict[str, list[float]]]:
    """Tests what a run trained, by the method that the configuration names."""
    setup = make_setup(config, len(data.train.labels))
    run = trained.load(folder)
    fitted = evaluation.fit(setup, run.params, run.seeds, data.validation)
    run = run._replace(config=config, setup=setup, fitted=fitted)
    others = {name.replace("_", " "): split for name, split in data.other_tests.items()}
    figures, doubles = {}, {}
    for name, split in {task.test: data.test, **others}.items():
        log_probs = run.log_probs(split.images)
        measured = evaluation.measure(log_probs, split.labels)._asdict()
        figures[name] = {
            key: np.asarray(values, float).tolist() for key, values in measured.items()
        }
        groups = alike.groups(data.name, data.class_names)
        doubles = alike.measure(log_probs, split.labels, groups) if groups else {}
    return figures, doubles


def _describe(row: Row) -> str:
    figures = []
    for name, test in row.tests.items():
        error, half_width = mean_and_half_width(test["error_percent"])
        nll, _ = mean_and_half_width(test["nll"])
        figures.append(f"{name} {error:.2f} ± {half_width:.2f} %, NLL {nll:.3f}")
    return (
        f"{row.task}, {row.num_epochs} epochs, {row.method} (dropout {row.dropout_rate:g}): "
        + "; ".join(figures)
    )
