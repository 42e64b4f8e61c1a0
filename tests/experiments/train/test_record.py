"""`--record_test`: what it writes, and that training does not notice."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.cli.stopping import Stopped
from experiments.data.datasets import Dataset
from experiments.data.split import Split
from experiments.train import record, run
from experiments.train.config import Config, read_config
from tests.experiments.conftest import MakeConfig
from tests.experiments.results import events_of, metrics_of, numbers_of, summary_of
from tests.experiments.stopping import stopping_at_look

RECORDED = {"train_nll", "test_nll", "test_error_percent"}


@pytest.fixture(scope="module")
def config(small_config: MakeConfig) -> Config:
    settings = {"batch_size": 8, "num_epochs": 3, "seeds": (0, 1)}
    return small_config("dropmax", record_test=True, **settings)


@pytest.fixture(scope="module")
def recorded(config: Config, small_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "run"
    run.train(config, small_data, folder, save_every=1)
    return folder


def test_the_last_epoch_is_what_the_test_says(recorded: Path) -> None:
    last, summary = metrics_of(recorded)[-1], summary_of(recorded)
    for name in ("test_nll", "test_error_percent"):
        np.testing.assert_allclose(last[name], summary[name], rtol=1e-4)


def test_the_training_images_are_predicted_as_in_a_test(
    recorded: Path, config: Config, small_data: Dataset, tmp_path: Path
) -> None:
    """A run whose test images are its training images has one number twice."""
    data = small_data._replace(test=small_data.train)
    run.train(config, data, tmp_path / "run")
    for entry, original in zip(metrics_of(tmp_path / "run"), metrics_of(recorded), strict=True):
        np.testing.assert_allclose(entry["train_nll"], entry["test_nll"], rtol=1e-5)
        assert entry["train_nll"] == original["train_nll"]
        # With the mean mask, unlike the term of the loss, whose mask knows the label.
        assert np.all(np.abs(np.subtract(entry["train_nll"], entry["cross_entropy"])) > 0.01)


def test_training_does_not_notice(
    recorded: Path, config: Config, small_data: Dataset, tmp_path: Path
) -> None:
    plain = dataclasses.replace(config, record_test=False)
    run.train(plain, small_data, tmp_path / "run")
    wanted, found = (
        numbers_of(tmp_path / "run", plain, small_data),
        numbers_of(recorded, config, small_data),
    )
    for entry in found["metrics"]:
        assert entry.keys() >= RECORDED
        for name in RECORDED:
            del entry[name]
    assert found == wanted


def test_a_resumed_run_has_the_same_numbers(
    recorded: Path,
    config: Config,
    small_data: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for look in (2, 9):
        with stopping_at_look(monkeypatch, look), pytest.raises(Stopped):
            run.train(config, small_data, tmp_path, save_every=1, resume=True)
    assert not (tmp_path / "summary.json").exists()
    run.train(config, small_data, tmp_path, save_every=1, resume=True)
    expected = numbers_of(recorded, config, small_data)
    assert numbers_of(tmp_path, config, small_data) == expected


def test_tensorboard_has_them(recorded: Path) -> None:
    scalars = events_of(recorded)
    for name in RECORDED:
        wanted = {entry["epoch"]: np.mean(entry[name]) for entry in metrics_of(recorded)}
        assert scalars[name] == pytest.approx(wanted, rel=1e-5)


def test_a_run_does_not_begin_to_record_or_stop_in_its_middle(
    recorded: Path, config: Config, small_data: Dataset
) -> None:
    plain = dataclasses.replace(config, record_test=False)
    with pytest.raises(UserError, match="its record_test is True, not False"):
        run.train(plain, small_data, recorded, resume=True)
    # What was measured of one is as good for the other.
    assert plain.identity() == config.identity()


def test_a_configuration_from_before_the_flag_is_read(recorded: Path, tmp_path: Path) -> None:
    values = json.loads((recorded / "config.json").read_text())
    assert values.pop("record_test") is True
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert read_config(tmp_path / "config.json").record_test is False
    (tmp_path / "config.json").write_text(json.dumps({**values, "record_test": 1}))
    with pytest.raises(UserError, match="record_test cannot be 1"):
        read_config(tmp_path / "config.json")


@pytest.mark.parametrize("num_epochs", [1, 9, 40, 41, 200, 1001])
def test_the_first_and_the_last_epochs_are_recorded_and_few_of_many(num_epochs: int) -> None:
    epochs = [epoch for epoch in range(1, num_epochs + 1) if record.is_recorded(epoch, num_epochs)]
    assert epochs[:10] == list(range(1, min(num_epochs, 10) + 1))
    assert epochs[-1] == num_epochs
    assert len(epochs) <= 90
    # No gap is longer than a fortieth of the training.
    assert max(np.diff([0, *epochs])) <= max(1, num_epochs / 40)


def test_short_epochs_are_validated_by_the_same_rule(
    small_config: MakeConfig, small_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_FIRST", 1)
    monkeypatch.setattr(record, "_PARTS", 2)
    config = small_config("softmax", batch_size=100, num_epochs=7)
    name, found = "validation_error_percent", []
    for size, epochs in ((1000, [1, 3, 6, 7]), (67, [1, 3, 6, 7]), (66, [1, 2, 3, 4, 5, 6, 7])):
        validation = Split(*(values[:size] for values in small_data.validation))
        folder = tmp_path / str(size)
        run.train(config, small_data._replace(validation=validation), folder)
        entries = metrics_of(folder)
        assert [entry["epoch"] for entry in entries if name in entry] == epochs
        found.append([entry["train_loss"] for entry in entries])
    assert found[0] == found[1] == found[2]


def test_very_many_training_images_are_thinned_evenly() -> None:
    size = 25_001
    images = np.arange(size, dtype=np.int32).astype(np.uint8).reshape(-1, 1, 1)
    part = record.train_part(Split(images, np.arange(size, dtype=np.int32)))
    assert len(part.labels) == len(part.images) == record.MOST_TRAIN
    assert set(np.diff(part.labels)) == {2, 3}
    np.testing.assert_array_equal(part.images[:, 0, 0], part.labels.astype(np.uint8))
    few = Split(images[:7], np.arange(7, dtype=np.int32))
    np.testing.assert_array_equal(record.train_part(few).labels, few.labels)
