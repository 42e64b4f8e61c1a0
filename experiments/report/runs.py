"""What the folder of a run says, read without a lock: the run may be under way."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.cli.errors import UserError, printable
from experiments.report.figures import Figure
from experiments.report.left_out import checked, reason_of
from experiments.train.config import Config

FIGURES = {"error_percent": 2, "nll": 3, "ece_percent": 2, "brier": 3}
"""What a test measures, and how many digits after the point are worth showing."""

Test = Mapping[str, list[float]]
"""For each of `FIGURES`, a value per seed."""


class Summary(NamedTuple):
    """What a finished run says of itself.

    Attributes:
        num_train: Training examples.
        test: Of the test set.
        other_tests: Of further test sets, by their names.
        train_seconds: What training took.
        device: What it ran on.
        versions: Of what the numbers depend on.
    """

    num_train: int
    test: Test
    other_tests: Mapping[str, Test]
    train_seconds: float
    device: str
    versions: Mapping[str, str]


class Run(NamedTuple):
    """A run.

    Attributes:
        folder: Its own.
        config: What was trained.
        num_epochs_done: How many epochs it has written down.
        validation_error_percent: After these, the mean over seeds; NaN before the first.
        summary: Of a finished run; None of another.
        problem: What is wrong with `summary.json`, if there is one.
        written: When it wrote its last figures, in seconds since 1970.
        figures: The pictures in the folder.
    """

    folder: Path
    config: Config
    num_epochs_done: int
    validation_error_percent: float
    summary: Summary | None
    problem: str
    written: float
    figures: list[Figure]


def read_run(folder: Path, results: Path) -> Run:
    """Reads the run in a folder, without its pictures.

    Raises:
        UserError: `config.json` is none that can be read; with the reason alone.
    """
    values = _json(folder / "config.json", results)
    try:
        config = Config.from_json(values)
    except UserError as error:
        raise UserError(f"it is not the configuration of a run: {error}") from error
    lines = _lines(folder / "metrics.jsonl", results)
    summary, problem = None, ""
    if os.path.lexists(folder / "summary.json"):
        try:
            summary = _summary(_json(folder / "summary.json", results), config)
        except UserError as error:
            problem = str(error)
    error_percent = _validation_error(lines)
    return Run(folder, config, len(lines), error_percent, summary, problem, _written(folder), [])


def _json(file: Path, results: Path) -> Any:
    try:
        return json.loads(checked(file, results).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"it cannot be read: {reason_of(error)}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"it is damaged: {error}") from error


def _summary(values: Any, config: Config) -> Summary:
    """Checks what `summary.json` holds."""
    try:
        if values["seeds"] != list(config.seeds):
            raise UserError("it is of other seeds than config.json")
        others = values.get("other_tests", {})
        return Summary(
            int(values["num_train"]),
            _test(values, len(config.seeds)),
            {printable(name): _test(found, len(config.seeds)) for name, found in others.items()},
            _finite(values["train_seconds"]),
            printable(values["device"]),
            {printable(name): printable(text) for name, text in values["versions"].items()},
        )
    except LookupError as error:
        raise UserError(f"it lacks {error}") from error
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise UserError(f"it is damaged: {error}") from error


def _test(values: Mapping[str, Any], num_seeds: int) -> Test:
    test = {name: [_finite(value) for value in values[f"test_{name}"]] for name in FIGURES}
    for name, found in test.items():
        if len(found) != num_seeds:
            raise UserError(f"it has {len(found)} values of test_{name} for {num_seeds} seeds")
    return test


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise UserError(f"it has {number} for a number")
    return number


def _lines(file: Path, results: Path) -> list[str]:
    """The lines of `metrics.jsonl`, one an epoch; none if there are none to be read."""
    try:
        return checked(file, results).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, UserError):
        return []


def _validation_error(lines: list[str]) -> float:
    try:
        found = json.loads(lines[-1])["validation_error_percent"]
        values = found if isinstance(found, list) else [found]
        return math.fsum(values) / len(values)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return math.nan


def _written(folder: Path) -> float:
    times = []
    for name in ("summary.json", "metrics.jsonl", "config.json"):
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
        if name == "summary.json":
            break  # Nothing that comes later is of the training.
    return times[0] if times else 0.0
