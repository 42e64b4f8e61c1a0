"""The command that trains a run again gives its configuration back."""

import dataclasses
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from absl.testing import flagsaver

from experiments import images, mnist
from experiments.calibration import __main__ as calibration
from experiments.cli import train_command
from experiments.cli.errors import UserError
from experiments.data import datasets
from experiments.data.datasets import Dataset
from experiments.report.commands import FOLLOWS, rerun
from experiments.runtime import jax_settings
from experiments.train.config import Config, read_config
from tests.experiments.conftest import MakeConfig
from tests.experiments.report.made import config_of
from tests.experiments.runner import ROOT, run_here

MODULES = {"experiments.mnist": mnist, "experiments.images": images}
CONFIGS = [
    config_of(),
    config_of("softmax", dataset="mnist_5k", seeds=(0, 1, 2)),
    config_of(mnist_path='/data/it\'s $(here) `and` "there"', seeds=(2**31 - 2, 2**31 - 1)),
    config_of(dataset="my_digits", mnist_path="/data/my_digits"),
    config_of(data_dir="gs://bucket/data", precision="bfloat16", network="cnn"),
    config_of("class_dropout", hyperparameters={"retain_probability": 0.1 + 0.2}),
    config_of(hyperparameters={"temperature": 0.05}, learning_rate=1e-37, batch_size=7),
    config_of(train_per_class=None, num_epochs=3),
    # Flags that experiments.mnist has not got.
    config_of(weight_decay=0.0, dropout_rate=0.5, optimizer="sgd", schedule="cosine"),
    config_of(data_path="/data/mnist", augmentation="crop", accumulate=4),
    config_of(dataset="glyphs:62", num_classes=62),
    config_of("softmax", dataset="glyphs:561", num_epochs=200, train_per_class=100),
    config_of(dataset="cifar100", network="lenet", learning_rate=0.1, train_per_class=None),
    config_of(dataset="folder:pets", data_path="/my pets", image_size=64, schedule="constant"),
    config_of(dataset="languages:180", num_classes=180, num_epochs=240, dropout_rate=0.0),
]


def asked_by(line: str, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> tuple[Config, list[Any]]:
    """The configuration that a command would train, and its other arguments."""
    asked: list[Any] = []
    monkeypatch.setattr(train_command, "_run", lambda *given: asked.extend(given))
    python, flag, name, *arguments = shlex.split(line)
    assert (python, flag) == ("python", "-m")
    outcome = run_here(capfd, *arguments, module=MODULES[name])
    assert outcome.code == 0, outcome.stderr
    return asked[0], asked[1:]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_finished_run_is_trained_again_beside_it(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    line = rerun(config, tmp_path / "a run", is_finished=True)
    asked, (savedir, _, tests, resume, overwrite) = asked_by(line, monkeypatch, capfd)
    assert (savedir, tests, resume, overwrite) == (tmp_path / "a run_again", False, False, False)
    assert asked.dataset in {config.dataset.partition(":")[0], "auto"}
    follows = {name: getattr(config, name) for name in ("dataset", *FOLLOWS)}
    assert dataclasses.replace(asked, **follows) == config


def test_loading_the_data_gives_the_rest(
    finished_run: Path, small_data: Dataset, monkeypatch: Any, capfd: Any
) -> None:
    config = read_config(finished_run / "config.json")
    asked, _ = asked_by(rerun(config, finished_run, True), monkeypatch, capfd)
    assert datasets.configured(asked, datasets.load_for(asked)) == config


def test_a_flag_of_other_commands_may_have_another_name(
    small_data: Dataset, small_config: MakeConfig, monkeypatch: Any, capfd: Any
) -> None:
    """`experiments.table` has `--mnist_path` as well as `--schedule`."""
    config = small_config("softmax", schedule="cosine")
    asked, _ = asked_by(rerun(config, Path("run"), True), monkeypatch, capfd)
    assert asked.data_path == config.mnist_path
    again = datasets.configured(asked, datasets.load_for(asked))
    assert again.identity() == config.identity()


def test_an_unfinished_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line = rerun(config_of("softmax"), tmp_path, is_finished=False)
    _, (savedir, _, tests, resume, _) = asked_by(line, monkeypatch, capfd)
    assert (savedir, tests, resume) == (tmp_path, False, True)


def test_the_calibration_alone_changes_images() -> None:
    config = config_of("softmax", seeds=(0, 1), num_epochs=3)
    folder = Path("results/calibration/background_random/softmax")
    line = rerun(config, folder, is_finished=True)
    module, *arguments = shlex.split(line)[2:]
    assert module == "experiments.calibration"
    before = flagsaver.save_flag_values(calibration.FLAGS.values)
    try:
        calibration.FLAGS.values(["command", *arguments])
        asked = calibration._CONFIG.config(model="softmax")
        assert calibration._VARIANTS.value == ["background_random"]
        assert calibration._SAVEDIR.value == Path("results/calibration_again")
    finally:
        flagsaver.restore_flag_values(before, calibration.FLAGS.values)
    assert dataclasses.replace(asked, **{name: getattr(config, name) for name in FOLLOWS}) == config


@pytest.mark.parametrize("given", [".", "..", "../run", "../../../background_random/run"])
def test_a_folder_has_its_name_wherever_the_user_is(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "background_random" / "run" / "inside"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside.parent if given in {".", "../run"} else inside)
    line = rerun(config_of("softmax"), Path(given), is_finished=True)
    (savedir,) = (word for word in shlex.split(line) if word.startswith("--savedir="))
    asked = Path(savedir.removeprefix("--savedir="))
    assert asked.resolve() == tmp_path.with_name(f"{tmp_path.name}_again")
    plain = tmp_path / "plain"
    plain.mkdir()
    monkeypatch.chdir(plain)
    line = rerun(config_of("softmax"), Path(), is_finished=True)
    assert f"--savedir={plain}_again" in line


def test_variables_give_the_settings_of_jax(tmp_path: Path) -> None:
    settings = {**jax_settings.DEFAULTS, "enable_x64": True, "default_matmul_precision": "highest"}
    line = rerun(config_of(jax_settings=settings), tmp_path, is_finished=True)
    variables, _, _ = line.partition("python -m")
    code = "from experiments.runtime import jax_settings; print(jax_settings.current())"
    shell = f"{variables} {shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    found = subprocess.run(
        shell, shell=True, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True
    )
    assert found.stdout == f"{settings}\n", found.stderr


@pytest.mark.parametrize(
    ("config", "folder", "reason"),
    [
        (config_of(seeds=(0, 2)), "run", "no flags"),
        (config_of(hyperparameters={"a,b": 1.0}), "run", "no flags"),
        (config_of(), "run\n", "characters that no page can show"),
        (config_of(), "run\udcff", "characters that no page can show"),
        (config_of(mnist_path="/\u202e"), "run", "characters that no page can show"),
    ],
)
def test_no_command_is_better_than_another(config: Config, folder: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        rerun(config, Path(folder), is_finished=True)
