"""The table of methods: tuning, comparison, failures, and what it writes."""

import csv
import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments.cli.errors import RunFailedError
from experiments.data.datasets import Dataset
from experiments.runtime.files import write_json
from experiments.table import __main__ as table
from experiments.table import table_rows
from experiments.train import run
from experiments.train.config import Config
from tests.experiments.runner import run_here

# The validation error and two seeds' test errors by setting. Test errors would choose otherwise.
FIGURES = {
    "softmax": (5.0, [5.0, 5.4]),
    "class_dropout,retain_probability=0.2": (4.0, [4.0, 4.2]),
    "class_dropout,retain_probability=0.4": (3.0, [4.5, 4.9]),
    "class_dropout,retain_probability=0.6": (6.0, [3.0, 3.2]),
    "dropmax": (3.5, [3.4, 3.6]),
}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces training by the figures above; gives the folders asked for."""
    folders: list[Path] = []

    def train(config: Config, data: Dataset, savedir: Path, **_: Any) -> dict[str, Any]:
        folders.append(savedir)
        if savedir.name == "sparsemax":
            raise RunFailedError("the loss is not finite")
        validation, errors = FIGURES[savedir.name]
        savedir.mkdir(parents=True, exist_ok=True)
        entry = {"epoch": 1, "validation_error_percent": [validation - 1, validation + 1]}
        (savedir / "metrics.jsonl").write_text(json.dumps(entry) + "\n")
        return {
            "model": config.model,
            "network": config.network,
            "dataset": config.dataset,
            "num_train": len(data.train.labels),
            "seeds": list(config.seeds),
            "test_error_percent": errors,
            "test_nll": [0.1, 0.2],
            "test_ece_percent": [1.0, 2.0],
            "test_brier": [0.01, 0.02],
            "train_seconds": 1.0,
        }

    monkeypatch.setattr(run, "train", train)
    return folders


def run_table(
    capfd: pytest.CaptureFixture[str], mnist_folder: Path, savedir: Path, *more: str
) -> tuple[int, str, str]:
    return run_here(
        capfd,
        f"--mnist_path={mnist_folder}",
        f"--savedir={savedir}",
        "--train_per_class=20",
        "--num_seeds=2",
        "--jobs=1",
        *more,
        module=table,
    )


def read_table(savedir: Path) -> dict[str, dict[str, str]]:
    with (savedir / "table.csv").open() as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def test_validation_chooses_and_softmax_is_compared(
    capfd: pytest.CaptureFixture[str], trained: list[Path], mnist_folder: Path, tmp_path: Path
) -> None:
    models = "--models=dropmax,class_dropout,softmax"
    code, stdout, _ = run_table(capfd, mnist_folder, tmp_path, models)
    assert code == 0
    assert len(trained) == len(set(trained)) == 5
    rows = read_table(tmp_path)
    # The rows are in the order of METHODS, whatever the order of the flag.
    assert list(rows) == ["softmax", "class_dropout", "dropmax"]
    assert rows["class_dropout"]["chosen"] == "retain_probability=0.4"
    assert float(rows["class_dropout"]["error_percent"]) == pytest.approx(4.7)
    difference = np.subtract(FIGURES["dropmax"][1], FIGURES["softmax"][1])
    assert float(rows["dropmax"]["difference"]) == pytest.approx(difference.mean())
    expected = stats.ttest_1samp(difference, 0)
    assert float(rows["dropmax"]["p_value"]) == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    half_width = float(rows["dropmax"]["difference_half_width"])
    assert half_width == pytest.approx((interval.high - interval.low) / 2)
    assert rows["softmax"]["difference"] == "nan"
    # A run takes a second; class_dropout has three runs.
    assert [float(row["train_seconds"]) for row in rows.values()] == [1, 3, 1]
    markdown = (tmp_path / "table.md").read_text()
    assert "training took 0.1 minutes, summed over the runs" in markdown
    assert markdown in stdout
    assert "| `dropmax` |  | 3.50 ± " in markdown
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")


def test_a_row_that_fails_is_told_and_does_not_lose_the_others(
    capfd: pytest.CaptureFixture[str], trained: list[Path], mnist_folder: Path, tmp_path: Path
) -> None:
    models = "--models=softmax,sparsemax,dropmax"
    code, _, stderr = run_table(capfd, mnist_folder, tmp_path, models)
    assert code == 1
    assert "sparsemax (20 a class): the loss is not finite" in stderr
    assert list(read_table(tmp_path)) == ["softmax", "dropmax"]


def test_what_no_row_can_be_made_of_is_one_mistake(
    capfd: pytest.CaptureFixture[str], trained: list[Path], mnist_folder: Path, tmp_path: Path
) -> None:
    arguments = (f"--mnist_path={mnist_folder}", f"--savedir={tmp_path}", "--train_per_class=5")
    outcome = run_here(capfd, *arguments, module=table)
    assert outcome.code == 2
    assert "larger than the training set of 50 examples" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert not trained


def test_a_size_that_there_is_not_is_told_before_any_training(
    capfd: pytest.CaptureFixture[str], trained: list[Path], mnist_folder: Path, tmp_path: Path
) -> None:
    arguments = (f"--mnist_path={mnist_folder}", f"--savedir={tmp_path}")
    outcome = run_here(capfd, *arguments, "--train_per_class=20,7000", module=table)
    assert outcome.code == 2
    assert len(outcome.stderr.splitlines()) == 1
    assert not trained


def test_a_folder_of_another_run_is_told_before_any_training(
    capfd: pytest.CaptureFixture[str], trained: list[Path], mnist_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "lenet" / "20" / "dropmax"
    folder.mkdir(parents=True)
    write_json(folder / "config.json", Config("dropmax", num_epochs=7).to_json())
    code, _, stderr = run_table(capfd, mnist_folder, tmp_path, "--models=softmax,dropmax")
    assert code == 2
    assert f"the run in {folder} is another one" in stderr
    assert not trained


def test_a_full_disk_is_told_in_a_line(
    capfd: pytest.CaptureFixture[str],
    trained: list[Path],
    mnist_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "table.csv")

    monkeypatch.setattr(table_rows, "write", full)
    code, _, stderr = run_table(capfd, mnist_folder, tmp_path, "--models=softmax")
    assert code == 1
    assert stderr.splitlines()[-1].startswith("error: [Errno 28] No space left on device")


def test_published_figures_stand_only_beside_their_training_set(tmp_path: Path) -> None:
    def row(num_train: int, dataset: str = "mnist") -> table_rows.Row:
        summary = {
            "network": "cnn",
            "dataset": dataset,
            "num_train": num_train,
            "seeds": [0, 1],
            "train_seconds": 1.0,
            **{
                f"test_{name}": [1.0, 2.0]
                for name in ("error_percent", "nll", "ece_percent", "brier")
            },
        }
        return table_rows.Row("dropmax", {}, summary, 1.0, 1.0)

    rows = [row(size) for size in (200, 1_000, 5_000, 59_000)]
    table_rows.write([*rows, row(1_000, "mnist_5k")], tmp_path)
    with (tmp_path / "table.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [row["paper"] for row in found] == ["nan", "5.32", "nan", "nan", "nan"]
    assert [row["reproduction"] for row in found] == ["nan", "3.04", "1.36", "0.56", "nan"]
    # There is nothing to compare with without a softmax.
    assert {row["p_value"] for row in found} == {"nan"}


def test_real_runs_are_skipped_when_done(
    capfd: pytest.CaptureFixture[str],
    mnist_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = ("--models=softmax", "--num_epochs=1", "--network=tiny")
    assert run_table(capfd, mnist_folder, tmp_path, *arguments)[0] == 0
    checkpoints = tmp_path / "tiny" / "20" / "softmax" / "checkpoints"
    before = {path: path.stat().st_mtime_ns for path in checkpoints.rglob("*")}
    first = read_table(tmp_path)
    assert run_table(capfd, mnist_folder, tmp_path, *arguments)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in checkpoints.rglob("*")} == before
    assert read_table(tmp_path) == first


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--models=softmax,dropmx", "'dropmx': must be one of"),
        ("--train_per_class=100,0", "'0': must be a whole number"),
        ("--train_per_class=100,some", "'some': must be"),
        ("--models=", "--models="),
        ("--train_per_class=", "--train_per_class="),
        ("--savedir=", "--savedir=: must be a path"),
        ("--num_seeds=0", "num_seeds"),
        ("--network=resnet", "network"),
    ],
)
def test_bad_flags(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, argument: str, message: str
) -> None:
    savedir = tmp_path / "table"
    outcome = run_here(capfd, f"--savedir={savedir}", argument, module=table)
    assert outcome.code == 2
    assert message in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert not savedir.exists()
