"""The report: what it shows of a folder, what it leaves out, and what it refuses."""

import html
import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.many_classes import report as many_classes
from experiments.many_classes.comparison import FIGURES, METHODS, Row
from experiments.report import __main__ as report
from experiments.report import comparisons, figures
from experiments.report.folders import Results, read_results
from experiments.reports.statistics import mean_and_half_width
from experiments.runtime.files import locked_folder, write_json
from experiments.table import table_rows
from tests.experiments.report.made import PNG, SVG, config_of, make_run, summary_of
from tests.experiments.runner import ROOT, environment, files_under, help_at_once, run_here

SCRIPT = "<script>alert(1)<|script>"  # No name of a folder has a slash.


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A finished run, and one that is not."""
    make_run(tmp_path / "results" / "dropmax")
    make_run(tmp_path / "results" / "softmax", config_of("softmax", num_epochs=9), num_epochs=4)
    return tmp_path / "results"


def page_of(folder: Path, capfd: pytest.CaptureFixture[str], *more: str) -> str:
    outcome = run_here(capfd, f"--results={folder}", *more, module=report)
    assert outcome.code == 0, outcome.stderr
    return (folder / "report.html").read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """What a page shows, in one line."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def reasons(read: Results) -> dict[str, str]:
    return {each.path.name: each.reason for each in read.left_out}


def test_help_is_quick() -> None:
    assert "report.html in --results" in help_at_once("experiments.report")


def test_the_command_imports_nothing_slow(results: Path) -> None:
    help_at_once("experiments.report", f"--results={results}")


def test_shows_what_was_run_and_how_far_the_rest_came(
    results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_run(results / "seeds", config_of("softmax", seeds=(3, 4, 5)), error=5.0)
    text = text_of(page_of(results, capfd))
    assert "3 runs, 2 of them finished. Made on" in text
    assert "dropmax dropmax lenet mnist 1,000 1 2 3.50 0.350 0.70 0.035 35 1 x cpu 2023-11-" in text
    assert "softmax unfinished softmax lenet mnist 1 4 of 9 2023-11-" in text
    assert "4 of 9 epochs are done, with a validation error of 6.00 %." in text
    mean, half_width = mean_and_half_width([5.0, 6.0, 7.0])
    assert f"{mean:.2f} ± {half_width:.2f}" in text
    assert "python 3.13.0, jax 0.12.0; 1 x cpu" in text
    assert "model softmax dataset mnist seeds 3, 4, 5 The other settings" in text


def test_the_command_of_the_page_makes_the_page(
    results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    results = results.rename(results.parent / "it's $HOME")
    text = text_of(page_of(results, capfd))
    line = shlex.join(["python", "-m", "experiments.report", f"--results={results}"])
    assert f"by {line}" in text


def test_nothing_in_the_folder_changes(results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A run under way is read, and its lock is left to it."""
    before = files_under(results)
    with locked_folder(results / "softmax"):
        assert "softmax unfinished" in text_of(page_of(results, capfd))
    after = files_under(results)
    del after["report.html"]
    assert after == before


def test_a_run_may_lock_its_folder_while_it_is_read(results: Path) -> None:
    read_results(results)
    # Nobody holds it, and no file of a lock was made.
    assert not list(results.rglob(".lock"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "is not there"),
        (lambda folder: folder.write_text(""), "is a file: pass the folder"),
        (lambda folder: folder.mkdir(), "there is no run in"),
        (lambda folder: (folder / "empty").mkdir(parents=True), "there is no run in"),
        (lambda folder: folder.symlink_to("nowhere"), "is not there"),
    ],
)
def test_what_holds_no_runs_is_told_in_one_line(
    make: object, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results"
    assert callable(make)
    make(folder)
    before = files_under(tmp_path)
    outcome = run_here(capfd, f"--results={folder}", module=report)
    assert outcome.code == 2
    assert message in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    assert files_under(tmp_path) == before


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("no/such/report.html", "must be a file in a folder that is there"),
        ("folder.html", "must be a file in a folder that is there"),
        ("report.txt", "must end in .html"),
        ("mine.html", "is there, and is no report of this command"),
        ("", "--output=: must be a path"),
    ],
)
def test_an_impossible_output_is_refused(
    results: Path,
    in_tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    output: str,
    message: str,
) -> None:
    (in_tmp_path / "folder.html").mkdir()
    (in_tmp_path / "mine.html").write_text("<p>Mine.</p>")
    outcome = run_here(capfd, f"--results={results}", f"--output={output}", module=report)
    assert outcome.code == 2
    assert message in outcome.stderr
    assert (in_tmp_path / "mine.html").read_text() == "<p>Mine.</p>"


def test_a_report_is_made_anew_and_a_page_of_the_users_is_not(
    results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = page_of(results, capfd)
    make_run(results / "another")
    assert "another" in page_of(results, capfd)
    assert "another" not in first
    (results / "report.html").write_text("<p>Mine.</p>")
    outcome = run_here(capfd, f"--results={results}", module=report)
    assert outcome.code == 2
    assert (results / "report.html").read_text() == "<p>Mine.</p>"


def test_a_folder_on_read_only_media_is_reported_here(results: Path, in_tmp_path: Path) -> None:
    command = (sys.executable, "-m", "tests.experiments.read_only_command")
    done = subprocess.run(
        [*command, str(results), "report.__main__", f"--results={results}"],
        cwd=in_tmp_path,
        env={**environment(1), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "dropmax" in (in_tmp_path / "report.html").read_text(encoding="utf-8")


def test_names_are_shown_and_not_obeyed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = config_of(dataset='"><img src=x onerror=alert(2)>', mnist_path="/<b>&amp;")
    folder = make_run(tmp_path / SCRIPT, config)
    summary = summary_of(config, 1.0)
    summary["device"] = "</td><script>alert(3)</script>"
    summary["versions"] = {"<i>": "\ud800"}
    summary["other_tests"] = {"</details>": {n: v for n, v in summary.items() if "test_" in n}}
    write_json(folder / "summary.json", summary)
    (folder / "<u>.png").write_bytes(PNG)
    (tmp_path / "a\n\u202eb\udcff").mkdir()
    (tmp_path / "a\n\u202eb\udcff" / "config.json").write_text("{")
    page = page_of(tmp_path, capfd)
    text = text_of(page)
    for shown in (SCRIPT, config.dataset, summary["device"], "/<b>&amp;", "<u>", "</details>"):
        assert shown in text or html.unescape(page).count(shown)
    tags = {tag.lower() for tag in re.findall(r"<(\w+)", page)}
    assert not tags & {"b", "i", "u", "iframe", "object"}
    assert page.count("<script") == 1
    assert "onerror" not in "".join(re.findall(r"<\w[^>]*>", page)).replace("&#34;&gt;", "")
    assert "a\\n\\u202eb\\udcff/config.json" in text


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


@pytest.mark.parametrize("figure", ["test_error_percent", "test_brier"])
@pytest.mark.parametrize(
    "value", [None, "3.5", [], [1.0, 2.0], [None], [[]], {}, [10**400], [math.nan], [math.inf]]
)
def test_figures_that_are_none_are_told(results: Path, figure: str, value: object) -> None:
    file = results / "dropmax" / "summary.json"
    write_json(file, {**json.loads(file.read_text()), figure: value})
    assert set(reasons(read_results(results))) == {"summary.json"}


def test_damage_is_on_the_page(results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (results / "dropmax" / "summary.json").write_text("{")
    make_run(results / "newer")
    write_json(results / "newer" / "config.json", {**config_of().to_json(), "warp": 9})
    outcome = run_here(capfd, f"--results={results}", module=report)
    assert outcome.stdout.rstrip().endswith("report.html; it says what it left out: 2")
    text = text_of((results / "report.html").read_text(encoding="utf-8"))
    assert "2 things were left out." in text
    assert "dropmax damaged dropmax lenet mnist 1 2 of 2 " in text
    assert "dropmax/summary.json : it is damaged: Expecting" in text
    assert "newer/config.json : it is not the configuration of a run: this version does not" in text


def test_a_run_without_a_test_is_to_be_tested(
    results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (results / "dropmax" / "summary.json").unlink()
    text = text_of(page_of(results, capfd))
    assert "All 2 epochs are done, but it was not tested." in text
    assert re.search(r"--savedir=\S+/dropmax --resume", text)


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


def test_pictures_come_with_their_captions_and_once(
    results: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = results / "dropmax" / "figures"
    folder.mkdir()
    (folder / "retained.png").write_bytes(PNG + b" " * 300 + PNG)
    (folder / "retained.svg").write_bytes(SVG)
    (folder / "captions.md").write_text(
        "# Figures\n\n## retained\n\n![retained](retained.png)\n\nWhat `dropmax` keeps.\n\n"
        "Of a run.\n"
    )
    page = page_of(results, capfd)
    assert page.count("data:image/svg+xml;base64,") == 1
    assert page.count("data:image/png;base64,") == 1
    assert "What dropmax keeps. Of a run." in text_of(page)


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


def test_a_run_may_be_the_folder_itself(results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = text_of(page_of(results / "dropmax", capfd))
    assert "1 run. Made on" in text
    assert f"--savedir={results / 'dropmax'}_again" in text
