import dataclasses
import json
import os
import struct
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.data.datasets import Dataset
from experiments.train import evaluation
from experiments.train.config import Config, read_config
from experiments.train.steps.setup import make_setup
from tests.experiments.results import events_of, metrics_of, newest, summary_of
from tests.experiments.train.conftest import STEPS_PER_EPOCH


def png_pixels(path: Path) -> np.ndarray:
    """The bytes of the rows of a PNG, each with its filter's number in front."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    place, packed = 8, b""
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        if content[place + 4 : place + 8] == b"IDAT":
            packed += content[place + 8 : place + 8 + length]
        place += length + 12
    pixels = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    assert pixels.shape[1] > 3 * width
    return pixels


METRICS_KEYS = {
    "epoch",
    "train_loss",
    "train_error_percent",
    "validation_error_percent",
    "seconds",
}
TERMS = {
    "softmax": {"cross_entropy"},
    "dropmax": {"cross_entropy", "kl_divergence", "label_regression", "prior_negative_entropy"},
}


class TestFiles:
    @pytest.fixture(params=["finished_run", "dropmax_run"])
    def folder(self, request: pytest.FixtureRequest) -> Path:
        folder: Path = request.getfixturevalue(request.param)
        return folder

    def test_are_those_of_the_design(self, folder: Path) -> None:
        names = {path.name for path in folder.iterdir()}
        events = {name for name in names if name.startswith("events.out.tfevents.")}
        assert events
        assert names - events - {".lock"} == {
            "config.json",
            "metrics.jsonl",
            "summary.json",
            "checkpoints",
            "learning_curves.png",
        }

    def test_config_is_the_configuration(
        self, folder: Path, dropmax_run: Path, dropmax_config: Config
    ) -> None:
        content = json.loads((folder / "config.json").read_text())
        names = {field.name for field in dataclasses.fields(Config)}
        assert set(content) == names - {"hyperparameters"} | {"settings"}
        assert read_config(dropmax_run / "config.json") == dropmax_config

    def test_metrics_have_a_line_an_epoch(self, folder: Path) -> None:
        config, entries = read_config(folder / "config.json"), metrics_of(folder)
        terms, seeds = TERMS[config.model], len(config.seeds)
        assert [entry["epoch"] for entry in entries] == list(range(1, config.num_epochs + 1))
        for entry in entries:
            assert set(entry) == METRICS_KEYS | terms
            assert entry["seconds"] > 0
            for name in set(entry) - {"epoch", "seconds"}:
                values = entry[name]
                # A number for one seed, a list for several.
                assert isinstance(values, float) if seeds == 1 else len(values) == seeds
                assert np.all(np.isfinite(values))
            np.testing.assert_allclose(
                entry["train_loss"], sum(np.array(entry[term]) for term in terms), rtol=1e-5
            )

    def test_errors_are_parts_of_the_images(self, folder: Path, small_data: Dataset) -> None:
        """Errors are percentages of the 200 seen in an epoch, and of the 1,000 checked after it."""
        config, entries = read_config(folder / "config.json"), metrics_of(folder)
        for entry in entries:
            errors = np.array(entry["train_error_percent"]) * 2
            np.testing.assert_allclose(errors, errors.round(), atol=1e-3)
        assert np.all(np.array(entries[0]["train_error_percent"]) > 20)
        setup = make_setup(config, 200)
        validation = small_data.validation
        (figures,), _ = evaluation.evaluate(
            setup,
            newest(folder, config, small_data).state.params,
            np.asarray(config.seeds, np.int32),
            validation,
            validation,
        )
        found = np.atleast_1d(entries[-1]["validation_error_percent"])
        np.testing.assert_allclose(found, figures.error_percent, rtol=1e-5)

    def test_summary_has_what_was_promised(self, folder: Path) -> None:
        config, summary = read_config(folder / "config.json"), summary_of(folder)
        lists = {"test_error_percent", "test_nll", "test_ece_percent", "test_brier"}
        assert set(summary) == lists | {
            "model",
            "network",
            "dataset",
            "num_train",
            "num_test",
            "seeds",
            "train_seconds",
            "compile_seconds",
            "steps_per_second",
            "device",
            "versions",
        }
        assert (summary["model"], summary["network"]) == (config.model, "tiny")
        assert (summary["dataset"], summary["num_train"]) == ("digits", 200)
        assert (summary["num_test"], summary["seeds"]) == (200, list(config.seeds))
        for name in lists:
            assert len(summary[name]) == len(config.seeds)
            assert np.all(np.isfinite(summary[name]))
        steps = config.num_epochs * STEPS_PER_EPOCH * len(config.seeds)
        # Both are rounded, the seconds to a thousandth.
        seconds = steps / summary["steps_per_second"]
        np.testing.assert_allclose(seconds, summary["train_seconds"], atol=1e-3)
        assert summary["compile_seconds"] > 0
        assert summary["versions"]["jax"] == jax.__version__
        assert summary["device"] == "1 x cpu"

    def test_checkpoints_are_the_newest_three(self, folder: Path) -> None:
        last = read_config(folder / "config.json").num_epochs * STEPS_PER_EPOCH
        steps = {int(path.name) for path in (folder / "checkpoints").iterdir()}
        assert steps == {last, last - STEPS_PER_EPOCH, last - 2 * STEPS_PER_EPOCH}

    def test_picture_shows_curves(self, folder: Path) -> None:
        pixels = png_pixels(folder / "learning_curves.png")
        assert pixels.shape[0] > 300
        assert len(np.unique(pixels)) > 20

    def test_tensorboard_reads_the_metrics_back(self, folder: Path) -> None:
        scalars, entries = events_of(folder), metrics_of(folder)
        assert set(scalars) == set(entries[0]) - {"epoch"}
        for name, steps in scalars.items():
            wanted = [float(np.mean(entry[name])) for entry in entries]
            np.testing.assert_allclose([steps[entry["epoch"]] for entry in entries], wanted, 1e-6)

    def test_anyone_may_read_them_whom_the_umask_lets(self, folder: Path) -> None:
        umask = os.umask(0)
        os.umask(umask)
        for name in ("config.json", "metrics.jsonl", "summary.json", "learning_curves.png"):
            assert (folder / name).stat().st_mode & 0o777 == 0o666 & ~umask
