"""What is read of a folder of results, and what is left out."""

import json
import math
import os
from pathlib import Path

import pytest

from experiments.many_classes import report as many_classes
from experiments.many_classes.comparison import FIGURES, METHODS, Row
from experiments.report import comparisons, figures
from experiments.report.folders import Results, read_results
from experiments.runtime.files import locked_folder, write_json
from experiments.table import table_rows
from tests.experiments.report.made import PNG, SVG, config_of, make_run, summary_of


def reasons(read: Results) -> dict[str, str]:
    return {each.path.name: each.reason for each in read.left_out}


def test_no_lock_is_taken(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that begins while its folder is read finds it free."""
    with locked_folder(results / "softmax"):
        pass
    locks = list(results.rglob(".lock"))
    monkeypatch.delattr("fcntl.flock")
    assert len(read_results(results).runs) == 2
    assert list(results.rglob(".lock")) == locks


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", "{", "it is damaged: Expecting property name"),
        ("config.json", "[" * 10**5, "it is damaged"),
        ("config.json", "\xff", "it is damaged"),
        ("config.json", "[]", "has no attribute 'items'"),
        ("config.json", "{}", "it lacks 'seeds'"),
        (
            "config.json",
            '{"seeds": [0], "model": "dropmax", "warp": 9}',
            "does not know its 'warp'",
        ),
        ("config.json", '{"seeds": [0], "model": "newer"}', "model cannot be 'newer'"),
        ("summary.json", "{", "it is damaged"),
        ("summary.json", "7", "it is damaged"),
        ("summary.json", '{"seeds": [1]}', "it is of other seeds than config.json"),
        ("summary.json", '{"seeds": [0]}', "it lacks 'num_train'"),
        ("metrics.jsonl", "{", "it is damaged"),
        ("metrics.jsonl", "\xff", "it is damaged"),
        ("metrics.jsonl", "{}", "it lacks 'validation_error_percent'"),
        ("metrics.jsonl", '{"validation_error_percent": 1}', "it has 1 of 2 epochs"),
        ("metrics.jsonl", '{"validation_error_percent": "1"}', "it is damaged"),
        ("metrics.jsonl", "", "it has 0 of 2 epochs"),
        ("learning_curves.png", "GIF", "it is damaged: a part of it is not there"),
        ("drawn.svg", "<svg", "it is damaged: a part of it is not there"),
    ],
)
def test_damage_is_told(results: Path, name: str, content: str, reason: str) -> None:
    (results / "dropmax" / name).write_bytes(content.encode("latin-1"))
    read = read_results(results)
    assert reason in reasons(read)[name]
    found = {run.folder.name: run for run in read.runs}
    # A run without its configuration is no run; all else of it is shown.
    assert ("dropmax" in found) == (name != "config.json")
    assert "softmax" in found
    if name == "summary.json":
        assert found["dropmax"].summary is None


def test_a_last_epoch_may_have_no_validation_error(results: Path) -> None:
    file = results / "dropmax" / "metrics.jsonl"
    file.write_text('{"validation_error_percent": [4, 6]}\n{"train_loss": 0.5}\n')
    (results / "dropmax" / "summary.json").unlink()
    found = {run.folder.name: run for run in read_results(results).runs}["dropmax"]
    assert (found.num_epochs_done, found.validation_error_percent) == (2, 5.0)


@pytest.mark.parametrize("figure", ["test_error_percent", "test_brier"])
@pytest.mark.parametrize(
    "value", [None, "3.5", [], [1.0, 2.0], [None], [[]], {}, [10**400], [math.nan], [math.inf]]
)
def test_figures_that_are_none_are_told(results: Path, figure: str, value: object) -> None:
    file = results / "dropmax" / "summary.json"
    write_json(file, {**json.loads(file.read_text()), figure: value})
    assert set(reasons(read_results(results))) == {"summary.json"}


def test_links_that_lead_elsewhere_are_not_followed(results: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(PNG)
    (results / "dropmax" / "inside.png").symlink_to("learning_curves.png")
    (results / "dropmax" / "outside.png").symlink_to(secret)
    (results / "dropmax" / "circle.png").symlink_to("circle.png")
    (results / "nowhere.png").symlink_to("nothing")
    make_run(tmp_path / "elsewhere" / "run")
    (results / "away").symlink_to(tmp_path / "elsewhere")
    (results / "again").symlink_to(".")
    (results / "half").mkdir()
    (results / "half" / "config.json").symlink_to(tmp_path / "elsewhere" / "run" / "config.json")
    os.mkfifo(results / "dropmax" / "pipe.svg")
    read = read_results(results)
    assert [run.folder.name for run in read.runs] == ["dropmax", "softmax"]
    assert [figure.title for figure in read.runs[0].figures] == ["inside", "learning curves"]
    found = reasons(read)
    assert found.keys() == {
        *("outside.png", "circle.png", "nowhere.png", "away", "again", "config.json", "pipe.svg")
    }
    assert "leads out of the folder" in found["outside.png"]
    assert "leads out of the folder" in found["config.json"]
    assert "link to a folder" in found["away"]
    assert "not a file" in found["pipe.svg"]


def test_a_folder_that_cannot_be_read_is_told(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "softmax":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    read = read_results(results)
    assert reasons(read) == {"softmax": "it cannot be read: Permission denied"}
    assert [run.folder.name for run in read.runs] == ["dropmax"]


def test_pictures_have_a_largest_size_and_a_largest_sum(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = results / "dropmax"
    (folder / "large.svg").write_bytes(SVG + b" " * 300)
    monkeypatch.setattr(figures, "LARGEST", 300)
    assert "takes pictures of at most" in reasons(read_results(results))["large.svg"]
    (folder / "second.png").write_bytes(PNG)
    monkeypatch.setattr(figures, "LARGEST_SUM", len(PNG) + 5)
    assert reasons(read_results(results)).keys() == {"large.svg", "second.png"}


def test_runs_belong_to_the_comparison_above_them(results: Path, tmp_path: Path) -> None:
    rows = [
        table_rows.Row(model, {"x": 0.5}, summary_of(config_of(model, seeds=(0, 1)), 3.0), 1.0, 9.0)
        for model in ("softmax", "dropmax")
    ]
    folder = results / "table"
    make_run(folder / "lenet" / "100" / "softmax,x=0.5")
    make_run(folder / "lenet" / "20" / "softmax,x=0.5")
    table_rows.write(rows, folder)
    read = read_results(results)
    assert [run.folder.name for run in read.runs] == ["dropmax", "softmax"]
    (comparison,) = read.comparisons
    assert comparison.command == "experiments.table"
    names = [str(run.folder.relative_to(folder)) for run in comparison.runs]
    assert names == ["lenet/20/softmax,x=0.5", "lenet/100/softmax,x=0.5"]
    assert [figure.title for figure in comparison.figures] == ["table"]
    (own,) = comparison.reports
    (table,) = [part.table for part in own.parts if part.kind == "table"]
    assert [row[0].text for row in table.rows] == ["softmax", "dropmax"]
    assert table.rows[0][2].text == "3.50 ± 6.35"
    assert table.rows[0][2].value == 3.5
    assert own.all_figures is not None
    assert "error, %" in own.all_figures.columns
    assert not any("half width" in column for column in own.all_figures.columns)


def test_what_many_classes_writes_can_be_read(tmp_path: Path) -> None:
    tests = {"unseen faces": {name: [10.0, 11.5] for name in FIGURES}}
    rows = [Row("glyphs:62", 62, 60, name, 0.5, tests, 60.0, {}) for name in METHODS]
    many_classes.write(rows, tmp_path)
    (comparison,) = read_results(tmp_path).comparisons
    (own,) = comparison.reports
    assert [part.kind for part in own.parts] == ["text", "text", "heading", "table"]
    columns = own.parts[-1].table.columns
    # The empty cells of the method that is compared with are no texts.
    assert [own.parts[-1].table.is_numeric(number) for number in range(len(columns))] == [
        *(False, True, True, True, True, False, False, True)
    ]


@pytest.mark.parametrize("name", ["table.csv", "alternatives.md"])
@pytest.mark.parametrize("content", ["a,b\n1\n", "| a | b |\n| --- | --- |\n| 1 |\n", "\xff", ""])
def test_a_damaged_table_is_told(results: Path, name: str, content: str) -> None:
    make_run(results / "table" / "run")
    (results / "table" / name).write_bytes(content.encode("latin-1"))
    read = read_results(results)
    (comparison,) = read.comparisons
    assert len(comparison.runs) == 1
    # What is no table may be a paragraph.
    assert name in reasons(read) or comparison.reports or not content


def test_a_very_long_table_is_cut(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparisons, "MOST_ROWS", 3)
    (results / "course.csv").write_text("step\n" + "1\n" * 5)
    read = read_results(results)
    (own,) = read.comparisons[0].reports
    assert own.all_figures is not None
    assert len(own.all_figures.rows) == 3
    assert "5 rows" in reasons(read)["course.csv"]
