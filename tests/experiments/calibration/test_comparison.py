import csv
import dataclasses
import math
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.calibration import __main__ as calibration
from experiments.calibration import comparison, measures, report
from experiments.cli.errors import UserError
from experiments.cli.stopping import Stopped
from experiments.data.datasets import Dataset
from experiments.data.forms import variants
from experiments.reports.statistics import mean_and_half_width
from experiments.train import run
from experiments.train.config import Config
from tests.experiments import runner
from tests.experiments.calibration.results import NAMES, SAMPLED, measurement
from tests.experiments.runner import files_under

METHODS = ("softmax", "temperature_scaling", "mc_dropout", "dropmax", "dropmax_monte_carlo")

CLEAN_5K = ("--dataset=mnist_5k", "--variants=clean")
FILES = [f"{name}.{kind}" for name in ("calibration", "detection") for kind in ("csv", "md", "png")]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class TestFiles:
    def test_all_are_there(self, finished: Path) -> None:
        names = {path.name for path in finished.iterdir()} - {".lock"}
        assert names == {*FILES, *NAMES}
        for name in ("calibration.png", "detection.png"):
            assert (finished / name).read_bytes().startswith(b"\x89PNG")

    def test_calibration_holds_every_method_of_every_variant(self, finished: Path) -> None:
        table = rows(finished / "calibration.csv")
        assert [(row["images"], row["method"]) for row in table] == [
            (images, method) for images in NAMES for method in METHODS
        ]
        for row in table:
            figures = measurement(finished / row["images"], row["method"]).figures
            assert row["num_seeds"] == "2"
            for name, values in figures.items():
                mean, half_width = mean_and_half_width(values)
                assert float(row[name]) == pytest.approx(mean)
                assert float(row[f"{name}_half_width"]) == pytest.approx(half_width)

    def test_temperature_changes_confidence_and_no_prediction(self, finished: Path) -> None:
        table = {(row["images"], row["method"]): row for row in rows(finished / "calibration.csv")}
        for images in NAMES:
            before, after = table[images, "softmax"], table[images, "temperature_scaling"]
            assert before["error_percent"] == after["error_percent"]
            assert before["nll"] != after["nll"]

    def test_detection_holds_every_score(self, finished: Path) -> None:
        table = rows(finished / "detection.csv")
        expected = [
            (images, method, score)
            for images in NAMES
            for method in METHODS
            for score in ("predictive_entropy", "mutual_information")
            if score == "predictive_entropy" or method in SAMPLED
        ]
        assert [(row["images"], row["method"], row["score"]) for row in table] == expected
        for row in table:
            for kind in ("errors", *variants.UNFAMILIAR):
                assert 0 <= float(row[f"{kind}_auroc"]) <= 1

    @pytest.mark.parametrize("name", ["calibration", "detection"])
    def test_markdown_is_a_table(self, finished: Path, name: str) -> None:
        text = (finished / f"{name}.md").read_text(encoding="utf-8")
        assert text.startswith("digits, tiny, 200 training images, 200 test images, 3 epochs, 2 ")
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert len(lines) == 2 + len(rows(finished / f"{name}.csv"))
        assert len({line.count("|") for line in lines}) == 1
        assert "nan" not in "".join(lines)
        assert str(finished.parent) not in text

    def test_the_papers_figures_stand_beside_those_of_its_images_only(
        self, finished: Path, small_data: Dataset, config: Config, tmp_path: Path
    ) -> None:
        assert "12.89" not in (finished / "calibration.md").read_text(encoding="utf-8")
        measured = {
            images: {method: measurement(finished / images, method) for method in METHODS}
            for images in NAMES
        }
        train = small_data.train._replace(labels=np.zeros(1000, np.int32))
        mnist_1k = small_data._replace(name="mnist", train=train)
        report.write(measured, config, mnist_1k, tmp_path)
        lines = (tmp_path / "calibration.md").read_text(encoding="utf-8").splitlines()
        (softmax,) = (line for line in lines if line.startswith("| background_random | `softmax`"))
        assert softmax.endswith("| 12.89 | 1.52 |")
        (clean,) = (line for line in lines if line.startswith("| clean | `softmax`"))
        assert clean.endswith("|  |  |")

    def test_a_single_seed_has_no_interval(self) -> None:
        record = {"images": "clean", "method": "softmax", "nll": 0.5, "nll_half_width": math.nan}
        table = report.to_markdown([record], {"nll": ("NLL", 3)})
        assert table.splitlines()[-1] == "| clean | `softmax` | 0.500 |"


class TestAgain:
    @pytest.fixture
    def copy(self, finished: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(finished, tmp_path / "copy"))

    def test_missing_and_damaged_measurements_are_made_again(
        self, config: Config, small_data: Dataset, copy: Path
    ) -> None:
        before = files_under(copy)
        (copy / "background_random/softmax/measurements.json").unlink()
        for folder, content in (
            ("clean/softmax", ""),
            ("clean/dropmax", "null"),
            ("background_random/dropmax", '{"of": 1, "methods": {}}'),
        ):
            (copy / folder / "measurements.json").write_text(content)
        comparison.compare(config, small_data, NAMES, copy)
        assert files_under(copy) == before

    def test_stopped_in_training_it_goes_on(
        self,
        config: Config,
        small_data: Dataset,
        finished: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        stopped = tmp_path / "stopped"
        with monkeypatch.context() as patch:
            patch.setattr(
                "experiments.cli.progress.Progress.epoch_done",
                lambda *_: os.kill(os.getpid(), signal.SIGINT),
            )
            with pytest.raises(Stopped, match="run the same command again to go on") as caught:
                comparison.compare(config, small_data, ("clean",), stopped)
        assert caught.value.exit_code == 130
        folder = stopped / "clean" / "softmax"
        assert str(folder) in str(caught.value)
        assert (folder / "checkpoints").is_dir()
        assert not (folder / "summary.json").exists()
        # Tests of runs show that it goes on from there.
        shutil.copytree(finished / "clean" / "mc_dropout", stopped / "clean" / "mc_dropout")
        shutil.copytree(finished / "clean" / "dropmax", stopped / "clean" / "dropmax")
        comparison.compare(config, small_data, ("clean",), stopped)
        made = (folder / "measurements.json").read_bytes()
        assert made == (finished / "clean" / "softmax" / "measurements.json").read_bytes()

    def test_a_variant_alone(self, config: Config, small_data: Dataset, copy: Path) -> None:
        comparison.compare(config, small_data, ("background_random",), copy)
        images = {row["images"] for row in rows(copy / "calibration.csv")}
        assert images == {"background_random"}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"num_epochs": 4}, "its num_epochs is 3, not 4"),
            ({"seeds": (0, 1, 2)}, "its seeds is [0, 1], not [0, 1, 2]"),
            ({"network": "cnn"}, "its network is tiny, not cnn"),
            ({"batch_size": 201}, "--batch_size=201 is larger"),
        ],
    )
    def test_another_experiment_is_refused(
        self,
        config: Config,
        small_data: Dataset,
        copy: Path,
        change: dict[str, Any],
        message: str,
    ) -> None:
        before = files_under(copy)
        other = dataclasses.replace(config, **change)
        with pytest.raises(UserError, match=re.escape(message)):
            comparison.compare(other, small_data, NAMES, copy)
        assert files_under(copy) == before

    def test_checkpoints_of_an_unknown_run_are_refused(
        self, config: Config, small_data: Dataset, copy: Path
    ) -> None:
        (copy / "clean" / "dropmax" / "config.json").unlink()
        before = files_under(copy)
        with pytest.raises(UserError, match=r"dropmax holds checkpoints but no config\.json"):
            comparison.compare(config, small_data, NAMES, copy)
        assert files_under(copy) == before


class TestCommand:
    def test_makes_the_files_of_what_is_done_and_does_nothing_again(
        self,
        finished: Path,
        mnist_folder: Path,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(run, "train", None)
        monkeypatch.setattr(measures, "measure", None)
        copy = tmp_path / "copy"
        shutil.copytree(finished, copy)
        for name in FILES:
            (copy / name).unlink()
        code, stdout, stderr = runner.run_here(
            capfd,
            f"--mnist_path={mnist_folder}",
            f"--savedir={copy}",
            f"--variants={','.join(NAMES)}",
            "--train_per_class=20",
            "--num_epochs=3",
            "--batch_size=20",
            "--num_seeds=2",
            "--network=tiny",
            module=calibration,
        )
        assert (code, stderr) == (0, "")
        assert "clean, softmax: done before" in stdout
        for name in ("calibration", "detection"):
            assert (finished / f"{name}.md").read_text(encoding="utf-8") in stdout
        assert files_under(copy) == files_under(finished)

    def test_help_answers_at_once(self) -> None:
        stdout = runner.help_at_once("experiments.calibration")
        assert set(re.findall(r"^  --(?:\[no\])?(\w+):", stdout, re.MULTILINE)) == {
            *("accumulate", "augmentation", "batch_size", "data_dir", "data_path", "dataset"),
            "dropout_rate",
            *("image_size", "jobs", "learning_rate", "mnist_path", "network", "num_classes"),
            *("num_epochs", "num_seeds", "optimizer", "precision", "savedir", "schedule", "seed"),
            *("train_per_class", "variants", "weight_decay"),
        }
        for variant in variants.VARIANTS:
            assert re.search(rf"\b{variant}\b", stdout)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--variants=nonsense"], "--variants=nonsense: 'nonsense': must be one of clean, "),
            (["--variants=clean,"], "--variants=clean,: '': must be one of"),
            (["--variants="], "--variants=: '': must be one of"),
            (["--num_seeds=0"], "num_seeds"),
            (["--num_epochs=1.5"], "num_epochs"),
            (["--train_per_class=-1"], "train_per_class"),
            (["--network=nonsense"], "network"),
            (["--dataset=nonsense"], "dataset"),
            (["--variant=clean"], "variants"),
            (["clean"], "unexpected argument 'clean'"),
            (["--mnist_path=no_such_folder"], "no_such_folder"),
            (["--dataset=mnist_5k", "--train_per_class=201"], "possible is 200"),
            ([*CLEAN_5K, "--batch_size=1001"], "--batch_size=1001 is larger"),
            ([*CLEAN_5K, "--savedir=/dev/null/x"], "cannot write to /dev/null/x"),
        ],
    )
    def test_a_mistake_is_told_in_a_line_and_leaves_no_trace(
        self,
        in_tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        arguments: list[str],
        message: str,
    ) -> None:
        code, _, stderr = runner.run_here(capfd, *arguments, module=calibration)
        assert code == 2
        assert stderr.startswith("error: ")
        assert message in stderr
        assert stderr.count("\n") == 1
        assert list(in_tmp_path.iterdir()) == []
