"""`python -m experiments.figures`: the files it writes, and what it refuses."""

import dataclasses
import functools
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from experiments.data.datasets import Dataset
from experiments.figures import __main__ as figures
from experiments.figures import album, boundaries
from experiments.figures.subject import load
from experiments.runtime.files import write_json
from experiments.train import run
from experiments.train.config import read_config
from tests.experiments.conftest import MakeConfig
from tests.experiments.runner import Outcome, files_under, help_at_once, run_here

FILES = {f"{name}.{kind}" for name in album.NAMES for kind in ("png", "svg")} | {"captions.md"}


@pytest.fixture(scope="module")
def dropmax(
    small_config: MakeConfig, small_data: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run of two seeds that recorded its test loss."""
    folder = tmp_path_factory.mktemp("figures") / "a`<b>"
    config = small_config("dropmax", batch_size=10, num_epochs=2, seeds=(3, 4), record_test=True)
    run.train(config, small_data, folder)
    return folder


@pytest.fixture(scope="module")
def softmax(
    small_config: MakeConfig, small_data: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("softmax") / "plain"
    config = small_config("softmax", batch_size=10, num_epochs=2, record_test=True)
    run.train(config, small_data, folder)
    return folder


def draw(capfd: pytest.CaptureFixture[str], *arguments: object) -> Outcome:
    return run_here(capfd, *map(str, arguments), module=figures)


def test_every_figure_is_written_with_a_caption_and_again_the_same(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    dropmax: Path,
    softmax: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(boundaries, "train", functools.partial(boundaries.train, side=12))
    folder = Path(shutil.copytree(dropmax, tmp_path / dropmax.name))
    before = files_under(folder)
    outcome = draw(capfd, f"--run={folder}", f"--compare={softmax}")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.endswith(f"files: {folder / 'figures'}\n")
    written = files_under(folder / "figures")
    assert written.keys() == FILES
    assert all(files_under(folder)[name] == content for name, content in before.items())
    for name, content in written.items():
        if name.endswith(".png"):
            assert content.startswith(b"\x89PNG\r\n\x1a\n")
        elif name.endswith(".svg"):
            assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
    captions = written["captions.md"].decode()
    parts = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", captions, re.MULTILINE | re.DOTALL))
    assert list(parts) == list(album.NAMES)
    for name, text in parts.items():
        assert f"![{name}]({name}.png)" in text
        # Which run made it, and which of its seeds.
        assert "Run `a'<b>`: dropmax, tiny, digits, 200 training and 200 test images" in text
        both = name in ("cross_entropy", "reliability")
        assert ("seeds 3, 4, trained with jax" in text) == both
        assert ("seed 3, trained with jax" in text) != both
        assert ("Run `plain`: softmax" in text) == both
    again = tmp_path / "again"
    assert draw(capfd, f"--run={folder}", f"--compare={softmax}", f"--output={again}").code == 0
    assert files_under(again) == written


def test_a_softmax_has_what_makes_sense_and_says_what_is_left_out(
    capfd: pytest.CaptureFixture[str], softmax: Path, tmp_path: Path
) -> None:
    outcome = draw(capfd, f"--run={softmax}", f"--output={tmp_path / 'figures'}")
    assert (outcome.code, outcome.stderr) == (0, "")
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert names == {"captions", "cross_entropy", "reliability"}
    expected = (
        "left out: retained, posterior, correlation (softmax has no retain probabilities); "
        "scatter, boundaries (softmax draws no masks to predict)"
    )
    assert expected in outcome.stdout.splitlines()
    assert expected.replace("left", "Left") in (tmp_path / "figures" / "captions.md").read_text()


@pytest.mark.parametrize(
    ("model", "left_out"),
    [
        ("dropmax_prior", {"posterior"}),
        ("deterministic_attention", {"posterior", "scatter", "boundaries"}),
        ("dropmax_logit", set[str]()),
        ("mc_dropout", {"retained", "posterior", "correlation", "scatter", "boundaries"}),
    ],
)
def test_an_unfinished_run_has_the_figures_of_its_method(
    small_config: MakeConfig,
    small_data: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    left_out: set[str],
) -> None:
    monkeypatch.setattr(album, "save", lambda figure, path: path.touch())
    monkeypatch.setattr(boundaries, "train", functools.partial(boundaries.train, side=12))
    run.train(small_config(model, batch_size=10, num_epochs=1), small_data, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "run" / "metrics.jsonl").unlink()
    (tmp_path / "figures").mkdir()
    album.draw_all(load(tmp_path / "run"), None, tmp_path / "figures", lambda line: None)
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()} - {"captions"}
    assert drawn == set(album.NAMES) - left_out - {"cross_entropy"}
    captions = (tmp_path / "figures" / "captions.md").read_text()
    assert "seed 0, unfinished." in captions
    assert (
        f"cross_entropy ({model} has no test loss by epoch: train with --record_test)" in captions
    )


def test_the_subject_is_the_run_itself(dropmax: Path, small_data: Dataset) -> None:
    subject = load(dropmax)
    assert subject.log_probs.shape == (2, 200, 10)
    assert subject.heads.logits.shape == (200, 10)
    errors = 100 * np.mean(subject.log_probs.argmax(-1) != small_data.test.labels, -1)
    np.testing.assert_allclose(errors, subject.history[-1]["test_error_percent"], atol=1e-3)


def test_runs_of_one_method_are_called_by_their_folders(
    capfd: pytest.CaptureFixture[str], softmax: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(softmax, tmp_path / "other")
    outcome = draw(capfd, f"--run={softmax}", f"--compare={other}", f"--output={tmp_path / 'out'}")
    assert outcome.code == 0, outcome.stderr
    captions = (tmp_path / "out" / "captions.md").read_text()
    assert "softmax (plain) ends at" in captions
    assert "softmax (other) ends at" in captions


def test_a_run_on_other_data_does_not_stand_beside(
    capfd: pytest.CaptureFixture[str], dropmax: Path, softmax: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(softmax, tmp_path / "other"))
    config = dataclasses.replace(read_config(other / "config.json"), data_fingerprint="another")
    write_json(other / "config.json", config.to_json())
    output = tmp_path / "figures"
    outcome = draw(capfd, f"--run={dropmax}", f"--compare={other}", f"--output={output}")
    assert outcome.code == 2
    assert "are of different data: compare runs that were trained" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run=none"], "there is no run in none"),
        (["--run=RUN", "--compare=none"], "there is no run in none"),
        (["--run=RUN", "--output=no/such"], "--output=no/such must be a folder, in a folder that"),
        (["--run=RUN", "--output=file"], "--output=file must be a folder, in a folder that is"),
        (["--run=RUN", "--output="], "--output=: must be a path"),
        (["--run=RUN", "--mnist_path=none"], "none"),
        (["--run=RUN", "more"], "unexpected argument 'more'"),
    ],
)
def test_a_mistake_is_told_in_a_line_and_leaves_no_trace(
    capfd: pytest.CaptureFixture[str],
    dropmax: Path,
    in_tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    (in_tmp_path / "file").write_text("kept")
    before = files_under(dropmax)
    given = [argument.replace("RUN", str(dropmax)) for argument in arguments]
    outcome = draw(capfd, *given)
    assert outcome.code == 2
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert files_under(in_tmp_path) == {"file": b"kept"}
    assert files_under(dropmax) == before


def test_help_answers_at_once() -> None:
    stdout = help_at_once("experiments.figures")
    assert set(re.findall(r"^  --(?:\[no\])?(\w+):", stdout, re.MULTILINE)) == {
        *("run", "compare", "dataset", "output", "mnist_path", "data_path")
    }
    assert all(name in stdout for name in album.NAMES)
