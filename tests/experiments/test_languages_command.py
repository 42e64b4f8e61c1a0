"""The commands on texts: `--dataset=languages`."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from experiments import images, masks, mnist, predict
from experiments.calibration import __main__ as calibration
from experiments.figures import __main__ as figures
from experiments.table import __main__ as table
from tests.experiments.runner import run_here

FLAGS = ("--dataset=languages", "--num_classes=6", "--batch_size=36", "--num_epochs=8")
RUN = Path("results", "languages", "dropmax")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("languages")


@pytest.fixture(autouse=True)
def _in_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)


def test_a_run_learns_and_is_resumed_and_tested(capfd: pytest.CaptureFixture[str]) -> None:
    code, stdout, stderr = run_here(capfd, *FLAGS, "--num_seeds=2", module=images)
    assert code == 0, stderr
    assert "dropmax, text, languages:6 (72 training examples): test error" in stdout
    errors = json.loads((RUN / "summary.json").read_text())["test_error_percent"]
    assert max(errors) < 50  # By chance, 83 %.
    config = json.loads((RUN / "config.json").read_text())
    assert config["image_shape"] == [48]
    assert config["learning_rate"] == 3e-3
    line = stdout.splitlines()[-2]
    for flag in ("--resume", "--mode=test"):
        code, stdout, stderr = run_here(capfd, f"--savedir={RUN}", flag, module=images)
        assert (code, stdout.splitlines()[-2]) == (0, line), stderr


def test_the_table_is_made(capfd: pytest.CaptureFixture[str]) -> None:
    code, stdout, stderr = run_here(
        capfd, *FLAGS, "--models=softmax", "--num_seeds=2", module=table
    )
    assert code == 0, stderr
    assert "languages:6, text, 72 training examples, seeds: 2" in stdout


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (images, (*FLAGS, "--network=lenet"), "--network=lenet: it reads images, but an example"),
        (images, (*FLAGS, "--augmentation=crop"), "crop changes images, and the examples of lang"),
        (table, (*FLAGS, "--network=resnet18"), "--network=resnet18: it reads images"),
        (mnist, ("--dataset=mnist_5k", "--network=text"), "--network=text: it reads texts, rows"),
        (calibration, FLAGS, "calibration changes images, and the examples of languages:6 are te"),
        (predict, (f"--run={RUN}", "photo.png"), "predict reads images, and the examples of lang"),
        (masks, (f"--savedir={RUN}",), "masks draws images, and the examples of languages:6 are "),
        (figures, (f"--run={RUN}",), "figures draws images, and the examples of languages:6 are "),
    ],
)
def test_what_is_about_images_is_refused_before_anything_is_written(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    here: Path,
    tmp_path: Path,
    module: ModuleType,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    if module in (predict, masks, figures):
        before = {*here.rglob("*")}
    else:
        monkeypatch.chdir(tmp_path)
    code, _, stderr = run_here(capfd, *arguments, module=module)
    assert code == 2
    assert message in stderr
    assert len(stderr.strip().splitlines()) == 1
    if module in (predict, masks, figures):
        assert {*here.rglob("*")} == before
    else:
        assert not [*tmp_path.iterdir()]
