"""The comparison over numbers of classes: what it trains, chooses, measures and writes."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.data import datasets
from experiments.data.datasets import Dataset
from experiments.many_classes import __main__ as many_classes
from experiments.many_classes import comparison, course, report, study, tasks
from experiments.many_classes.alternatives import ALTERNATIVES
from experiments.many_classes.comparison import METHODS, Row
from experiments.many_classes.steps import params_at
from experiments.many_classes.tasks import Task, config_of
from experiments.train import run
from experiments.train.folder import validation_error
from experiments.train.steps.setup import make_setup
from tests.experiments.runner import run_here
from tests.experiments.tiny import largest_difference

TASK = Task("glyphs", 12, 20, 3, "tiny")
COMPARED = ("softmax", "temperature_scaling", "mc_dropout", "dropmax")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return datasets.load_for(config_of(TASK, 1, 1))


@pytest.fixture(scope="module", autouse=True)
def _fewer_methods() -> Iterator[None]:
    """Some that are trained, and those that are served by the softmax."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "METHODS", {name: METHODS[name] for name in COMPARED})
        yield


def rows_of(data: Dataset, folder: Path) -> list[Row]:
    return comparison.compare(TASK, 1, 2, data, folder, run.train_missing, lambda line: None)


@pytest.fixture(scope="module")
def compared(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], Path]:
    folder = tmp_path_factory.mktemp("many_classes")
    return rows_of(data, folder), folder


class TestComparison:
    def test_has_a_row_of_each_method(self, compared: tuple[list[Row], Path]) -> None:
        rows, _ = compared
        assert [row.method for row in rows] == [*COMPARED]
        for row in rows:
            assert (row.task, row.num_classes, row.num_epochs) == ("glyphs:12", 12, 3)
            assert list(row.tests) == ["unseen faces", "unseen jitter"]
            assert all(len(values) == 2 for values in row.tests["unseen faces"].values())
            assert row.alike == {}
        by_method = {row.method: row for row in rows}
        plain, scaled = by_method["softmax"], by_method["temperature_scaling"]
        for test, figures in plain.tests.items():
            assert scaled.tests[test]["error_percent"] == figures["error_percent"]
            assert scaled.tests[test]["nll"] != figures["nll"]
        assert by_method["mc_dropout"].dropout_rate == 0.5

    def test_figures_are_those_of_the_run_that_validation_chose(
        self, compared: tuple[list[Row], Path], data: Dataset
    ) -> None:
        rows, folder = compared
        (row,) = (row for row in rows if row.method == "dropmax")
        own = folder / "3_epochs" / f"dropmax,dropout_rate={row.dropout_rate:g}"
        other = folder / "3_epochs" / f"dropmax,dropout_rate={0.5 - row.dropout_rate:g}"
        assert validation_error(own) <= validation_error(other)
        config = config_of(TASK, 1, 2, model="dropmax", dropout_rate=row.dropout_rate)
        summary = run.train_missing(datasets.configured(config, data), data, own)
        np.testing.assert_allclose(row.tests["unseen faces"]["nll"], summary["test_nll"], rtol=1e-5)

    def test_a_second_time_trains_nothing(
        self,
        compared: tuple[list[Row], Path],
        data: Dataset,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        rows, folder = compared

        def trainer(*_: Any) -> None:
            raise AssertionError("it trains")

        monkeypatch.setattr(run, "Trainer", trainer)
        assert rows_of(data, folder) == rows

    def test_a_folder_of_other_runs_is_refused(
        self, compared: tuple[list[Row], Path], data: Dataset
    ) -> None:
        _, folder = compared
        runs = comparison.runs_of(TASK, 2, data, folder)
        folders = [run.folder for run in runs]
        # No run is there twice, though methods share some.
        assert len(folders) == len(set(folders))
        assert {run.config.num_epochs for run in runs} == {3, 12}
        with pytest.raises(UserError, match="batch_size is 20, not 30"):
            comparison.runs_of(TASK._replace(batch_size=30), 2, data, folder)


def row(task: str, num_epochs: int, method: str, errors: list[float]) -> Row:
    figures = dict.fromkeys(comparison.FIGURES, errors)
    classes = int(task.partition(":")[2])
    doubles = {name: [1.0, 2.0] for name in report._ALIKE} if classes == 561 else {}
    tests = {"unseen faces": figures, "unseen jitter": figures}
    return Row(task, classes, num_epochs, method, 0.5, tests, 60.0, doubles)


def test_report(tmp_path: Path) -> None:
    rows = [
        row(task, num_epochs, method, [10.0 + number, 11.0 + number, 12.5 - number])
        for task in ("glyphs:62", "glyphs:561")
        for num_epochs in (60, 240)
        for number, method in enumerate(METHODS)
    ]
    report.write(rows, tmp_path)
    with (tmp_path / "many_classes.csv").open() as file:
        records = list(csv.DictReader(file))
    assert len(records) == 2 * 2 * 2 * len(METHODS)
    # Of 10, 11, 12.5 against 15, 16, 7.5.
    assert float(records[0]["error_percent_difference"]) == pytest.approx(-5 / 3)
    assert 0.05 < float(records[0]["nll_p_value"]) < 1
    text = (tmp_path / "many_classes.md").read_text(encoding="utf-8")
    assert "## glyphs:561, 240 epochs, unseen jitter, 3 seeds" in text
    assert "| `dropmax_balanced` | 0.5 | 11.67 ± 8.95 | 11.667 ± 8.957 | 11.67 ± 8.96 |  |  | 1.0 |"
    assert "All training took 16 minutes, summed over the runs, on" in text
    assert text.count("| glyphs:561 |") == 2 * len(METHODS)
    assert (tmp_path / "many_classes.png").stat().st_size > 10_000


class TestSteps:
    def test_stops_on_the_way_change_nothing(self, data: Dataset) -> None:
        config = datasets.configured(config_of(TASK, 1, 1, model="dropmax"), data)
        setup = make_setup(config, len(data.train.labels))
        found = dict(params_at(setup, data.train, 2, [0, 3, 9, 16]))
        assert list(found) == [0, 3, 9, 16]
        ((_, whole),) = params_at(setup, data.train, 2, [16])
        assert largest_difference(found[16], whole) < 1e-6
        assert largest_difference(found[9], whole) > 1e-3


def test_course(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course, "_NUM_POINTS", 4)
    found = course.records(TASK, data)
    by_method = {model: [r for r in found if r["method"] == model] for model in course.MODELS}
    for records in by_method.values():
        assert records[0]["step"] == 0
        assert records[-1]["step"] == 3 * (144 // 20)
        # At first, q is the product of two even chances, and nothing tells the classes apart.
        assert records[0]["retained"] == pytest.approx(
            11 * records[0]["posterior_others"], rel=0.01
        )
        assert 0 < records[0]["gradient_norm"] < 2**0.5
    first, second = (records[0] for records in by_method.values())
    assert first["prior_target"] == second["prior_target"]
    assert by_method["dropmax"][-1]["retained"] < by_method["dropmax_balanced"][-1]["retained"]
    course.write(found, tmp_path)
    assert len((tmp_path / "course.md").read_text().splitlines()) == 2 + 2 * 2
    assert (tmp_path / "course.png").stat().st_size > 10_000


def test_alternatives_are_kept(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "ALTERNATIVES", {"offset": ALTERNATIVES["offset"]})
    lines: list[str] = []

    def find(num_seeds: int = 2) -> str:
        study.study({"glyphs:12": TASK}, {"glyphs:12": data}, num_seeds, tmp_path, lines.append)
        return (tmp_path / "alternatives.md").read_text(encoding="utf-8")

    found = find()
    assert [line.partition(":")[0] for line in lines] == ["glyphs"]
    with monkeypatch.context() as patch:
        patch.setattr(study, "params_at", None)
        assert find() == found
    assert find(num_seeds=3) != found


def test_command(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tasks.TASKS, "glyphs:10", TASK)
    monkeypatch.setattr(many_classes, "LENGTHS", (1,))
    monkeypatch.setattr(course, "_NUM_POINTS", 2)
    code, out, err = run_here(
        capfd, "--tasks=glyphs:10", "--parts=course", f"--savedir={tmp_path}", module=many_classes
    )
    assert (code, err) == (0, "")
    assert "done: the course of glyphs:10" in out
    code, _, err = run_here(capfd, "--tasks=glyphs:11", module=many_classes)
    assert code == 2
    assert "--tasks" in err
