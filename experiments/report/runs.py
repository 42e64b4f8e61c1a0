"""What the folder of a run says, read without a lock: the run may be under way."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.cli.errors import UserError, printable
from experiments.report.figures import Figure
from experiments.report.left_out import LeftOut, checked, reason_of
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
        validation_error_percent: The last one, the mean over seeds; NaN before the first.
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


def read_run(folder: Path, results: Path, left_out: list[LeftOut]) -> Run:
    """Reads the run in a folder, without its pictures; notes in `left_out` what cannot be read.

    Raises:
        UserError: `config.json` is none that can be read; with the reason alone.
    """
    values = _json(folder / "config.json", results)
    try:
        config = Config.from_json(values)
    except UserError as error:
        raise UserError(f"it is not the configuration of a run: {error}") from error
    summary, problem = None, ""
    if os.path.lexists(folder / "summary.json"):
        try:
            summary = _summary(_json(folder / "summary.json", results), config)
        except UserError as error:
            problem = str(error)
            left_out.append(LeftOut(folder / "summary.json", problem))
    num_epochs, error_percent = 0, math.nan
    if summary is not None or os.path.lexists(folder / "metrics.jsonl"):
        try:
            num_epochs, error_percent = _progress(folder / "metrics.jsonl", results)
            if summary is not None and num_epochs != config.num_epochs:
                raise UserError(f"it has {num_epochs} of {config.num_epochs} epochs")
        except UserError as error:
            left_out.append(LeftOut(folder / "metrics.jsonl", str(error)))
    return Run(folder, config, num_epochs, error_percent, summary, problem, _written(folder), [])


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


def _progress(file: Path, results: Path) -> tuple[int, float]:
    """How many epochs are written down, and the last validation error."""
    name = "validation_error_percent"
    try:
        lines = checked(file, results).read_text(encoding="utf-8").splitlines()
        entries = (json.loads(line) for line in reversed(lines))
        found = (entry[name] for entry in entries if name in entry)
        errors = next(found, None) if lines else math.nan
        if errors is None:
            raise UserError(f"it lacks {name!r}")
        errors = errors if isinstance(errors, list) else [errors]
        return len(lines), math.fsum(errors) / len(errors)
    except OSError as error:
        raise UserError(f"it cannot be read: {reason_of(error)}") from error
    except LookupError as error:
        raise UserError(f"it lacks {error}") from error
    except (ArithmeticError, RecursionError, TypeError, ValueError) as error:
        raise UserError(f"it is damaged: {error}") from error


def _written(folder: Path) -> float:
    for name in ("summary.json", "metrics.jsonl", "config.json"):
        try:
            return (folder / name).stat().st_mtime
        except OSError:
            continue
    return 0.0
