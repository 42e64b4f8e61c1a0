"""`experiments.images`, and the other commands on its data."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from experiments import images, masks, predict
from experiments.calibration import __main__ as calibration
from experiments.cli.command import Flags
from experiments.cli.config_flags import ConfigFlags
from experiments.data import datasets
from experiments.data.catalogue import ROWS
from experiments.table import __main__ as table
from experiments.train.config import Config
from tests.experiments.runner import Outcome, help_at_once, run_here

GLYPHS = ("--dataset=glyphs", "--num_classes=12", "--network=tiny", "--num_epochs=2")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(autouse=True)
def _in_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))


class Commands:
    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.capfd = capfd

    def __call__(self, module: ModuleType, *arguments: str) -> Outcome:
        outcome = run_here(self.capfd, *arguments, module=module)
        assert outcome.code == 0, outcome
        return outcome


@pytest.fixture
def commands(capfd: pytest.CaptureFixture[str]) -> Commands:
    return Commands(capfd)


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def flags_of(*arguments: str) -> ConfigFlags:
    own = Flags()
    config = ConfigFlags(own, without=("mnist_path",), dataset=None)
    own.values(["images", *arguments])
    return config


def config_of(*arguments: str) -> dict[str, Any]:
    return flags_of(*arguments).config().to_json()


def test_help_lists_every_flag() -> None:
    stdout = help_at_once("experiments.images")
    for name in images.FLAGS.values:
        assert f"--{name}:" in stdout or f"--[no]{name}:" in stdout
    assert all(name in stdout for name in ROWS)


def test_a_data_set_must_be_named(capfd: pytest.CaptureFixture[str]) -> None:
    code, _, stderr = run_here(capfd, module=images)
    assert code == 2
    assert "name the images: --dataset=auto|" in stderr
    code, _, stderr = run_here(capfd, "--dataset=imagenet", module=images)
    assert code == 2
    assert "cifar100" in stderr


class TestTheDataOfAKeptRun:
    KEPT = Config(
        dataset="folder:pets",
        data_path="/pets",
        image_size=8,
        optimizer="sgd",
        data_fingerprint="1",
    )

    @pytest.mark.parametrize("flags", [(), ("--dataset=folder",), ("--data_path=/moved",)])
    def test_stay_but_for_the_flags(self, flags: tuple[str, ...]) -> None:
        config = flags_of("--num_epochs=3", *flags).config(self.KEPT)
        path = "/moved" if "--data_path=/moved" in flags else "/pets"
        assert (config.dataset.partition(":")[0], config.data_path) == ("folder", path)
        assert (config.image_size, config.optimizer, config.num_epochs) == (8, "sgd", 3)

    def test_are_others_if_a_flag_names_them(self) -> None:
        config = flags_of("--dataset=glyphs").config(self.KEPT)
        assert (config.dataset, config.data_path, config.image_size) == ("glyphs", None, None)

    @pytest.mark.parametrize("flag", ["--data_path=/moved", "--dataset=glyphs"])
    def test_of_mnist_are_no_longer_where_they_were(self, flag: str) -> None:
        kept = Config(dataset="mnist", mnist_path="/mnist")
        assert flags_of().config(kept).mnist_path == "/mnist"
        assert flags_of(flag).config(kept).mnist_path is None

    def test_stay_where_they_were_if_tfds_is_elsewhere(self) -> None:
        kept = Config(dataset="folder", data_path="/pets")
        config = flags_of("--data_dir=/tfds").config(kept)
        assert (config.dataset, config.data_path, config.data_dir) == ("folder", "/pets", "/tfds")


class TestRecipe:
    def test_is_the_data_sets(self) -> None:
        config = config_of("--dataset=cifar100")
        assert {name: config[name] for name in ROWS["cifar100"].recipe} == ROWS["cifar100"].recipe

    def test_gives_way_to_flags(self) -> None:
        config = config_of("--dataset=cifar10", "--optimizer=adam", "--train_per_class=20")
        assert (config["optimizer"], config["train_per_class"]) == ("adam", 20)
        assert config["network"] == "resnet34"

    def test_of_mnist_is_the_commands_default(self) -> None:
        assert config_of("--dataset=mnist") == config_of("--dataset=auto") | {"dataset": "mnist"}


@pytest.mark.parametrize(("name", "row"), ROWS.items(), ids=list(ROWS))
def test_rows_are_what_the_data_are(name: str, row: Any) -> None:
    """For the data that can be had here without a download."""
    if name not in {"mnist_5k", "glyphs", "languages"}:
        pytest.skip("needs a download or files")
    few = 12 if "num_classes" in row.options else None
    dataset = datasets.load(name, train_per_class=3, num_classes=few)
    assert dataset.image_shape == row.image_shape
    assert not row.class_names or dataset.class_names == row.class_names


class TestGlyphs:
    RUN = Path("results", "glyphs", "dropmax")

    def test_train_are_resumed_and_tested(self, commands: Commands) -> None:
        stdout = commands(images, *GLYPHS).stdout
        assert "dropmax, tiny, glyphs:12 (144 training examples): test error" in stdout
        assert "; unseen jitter " in stdout
        config, summary = read(self.RUN / "config.json"), read(self.RUN / "summary.json")
        assert "".join(config["class_names"]) == "0123456789AB"
        assert config["image_shape"] == [28, 28]
        other = summary["other_tests"]["unseen_jitter"]
        assert set(other) == {name for name in summary if name.startswith("test_")}
        assert commands(images, f"--savedir={self.RUN}", "--resume").stdout.endswith(
            stdout.splitlines()[-1] + "\n"
        )
        tested = commands(images, f"--savedir={self.RUN}", "--mode=test").stdout
        assert stdout.splitlines()[-2] in tested

    def test_masks_are_drawn(self, commands: Commands) -> None:
        commands(masks, "--dataset=glyphs")
        assert (self.RUN / "masks.png").stat().st_size > 10_000

    def test_names_are_predicted(self, commands: Commands, tmp_path: Path) -> None:
        test = datasets.load("glyphs", num_classes=12, train_per_class=3).test
        np.save(tmp_path / "glyphs.npy", test.images[:3])
        stdout = commands(predict, "--dataset=glyphs", "--json", str(tmp_path / "glyphs.npy"))
        for one in json.loads(stdout.stdout):
            assert one["class_name"] == "0123456789AB"[one["class"]]
            assert len(one["probabilities"]) == 12

    def test_the_table_has_both_test_sets(self, commands: Commands) -> None:
        commands(table, *GLYPHS, "--models=softmax", "--num_seeds=2")
        text = Path("results", "glyphs", "table", "table.md").read_text(encoding="utf-8")
        header, _, row = (line for line in text.splitlines() if line.startswith("|"))
        columns = dict(zip(header.split("|"), row.split("|"), strict=True))
        assert "±" in columns[" unseen jitter, % "]
        assert columns[" paper, % "].strip() == ""

    @pytest.mark.slow
    def test_the_calibration_is_measured(self, commands: Commands) -> None:
        commands(calibration, *GLYPHS, "--variants=clean", "--num_seeds=1", "--jobs=1")
        folder = Path("results", "glyphs", "calibration")
        assert "glyphs:12" in (folder / "calibration.md").read_text(encoding="utf-8")
        assert (folder / "detection.png").exists()
