"""The report: what it shows of a folder, what it leaves out, and what it refuses."""

import html
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.report import __main__ as report
from experiments.reports.statistics import mean_and_half_width
from experiments.runtime.files import locked_folder, write_json
from tests.experiments.report.made import PNG, SVG, config_of, make_run, summary_of
from tests.experiments.runner import ROOT, environment, files_under, help_at_once, run_here

SCRIPT = "<script>alert(1)<|script>"  # No name of a folder has a slash.


def page_of(folder: Path, capfd: pytest.CaptureFixture[str], *more: str) -> str:
    outcome = run_here(capfd, f"--results={folder}", *more, module=report)
    assert outcome.code == 0, outcome.stderr
    return (folder / "report.html").read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """What a page shows, in one line."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


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


def test_a_run_may_be_the_folder_itself(results: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = text_of(page_of(results / "dropmax", capfd))
    assert "1 run. Made on" in text
    assert f"--savedir={results / 'dropmax'}_again" in text
