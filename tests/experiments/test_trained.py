"""Runs that we use from their checkpoints alone."""

import asyncio
import dataclasses
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from experiments import trained
from experiments.cli.errors import UserError
from experiments.data.datasets import Dataset
from experiments.runtime import devices
from experiments.runtime.files import write_json
from experiments.train import evaluation, run
from experiments.train.config import Config, read_config
from tests.docs.pages import DOCS, blocks
from tests.experiments.conftest import MakeConfig
from tests.experiments.runner import files_under

MODELS = ("softmax", "dropmax", "mc_dropout", "temperature_scaling")


@pytest.fixture(scope="module")
def runs(
    small_data: Dataset, small_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder of runs, by model: three epochs of the network `tiny`, seeds 0 and 3."""
    folder = tmp_path_factory.mktemp("trained")
    for model in MODELS:
        config = small_config(model, batch_size=10, num_epochs=3, seeds=(0, 3))
        run.train(config, small_data, folder / model, save_every=1)
    return folder


def summary_of(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return values


@pytest.mark.parametrize("model", MODELS)
def test_predictions_have_the_figures_of_the_runs_own_test(
    runs: Path, small_data: Dataset, model: str
) -> None:
    log_probs = trained.load(runs / model).log_probs(small_data.test.images)
    assert log_probs.shape == (2, 200, 10)
    summary = summary_of(runs / model)
    for name, values in evaluation.measure(log_probs, small_data.test.labels)._asdict().items():
        assert np.asarray(values).tolist() == pytest.approx(summary[f"test_{name}"], rel=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_predictions_are_those_of_the_formula(runs: Path, small_data: Dataset, model: str) -> None:
    """The heads are computed without this module, and the fit from the data."""
    found = trained.load(runs / model)
    setup, params, seeds = found.setup, found.params, found.seeds
    predict = evaluation.predictor(setup.network, setup.method.num_samples)
    images = evaluation.shard_images(small_data.test, setup.network)
    heads = predict(devices.replicate(params), seeds, images)
    logits = np.asarray(heads.logits, float)
    expected = scipy.special.log_softmax(logits, -1)
    if model == "dropmax":
        assert heads.prior_logits is not None
        masks = scipy.special.log_expit(np.asarray(heads.prior_logits, float))
        expected = scipy.special.log_softmax(logits + masks, -1)
    if model == "mc_dropout":
        assert logits.shape[1] == setup.method.num_samples
        expected = scipy.special.logsumexp(expected, 1) - np.log(setup.method.num_samples)
    if model == "temperature_scaling":
        fitted = evaluation.fit(setup, params, seeds, small_data.validation)
        assert summary_of(runs / model)["fitted"] == np.asarray(fitted).tolist()
        assert np.abs(np.asarray(fitted) - 1).min() > 1e-3
        scaled = logits / np.asarray(fitted, float)[:, None, None]
        expected = scipy.special.log_softmax(scaled, -1)
    found_log_probs = found.log_probs(small_data.test.images)
    np.testing.assert_allclose(found_log_probs, expected, rtol=1e-5, atol=1e-5)


def test_only_what_is_fitted_is_in_the_summary(runs: Path) -> None:
    assert [model for model in MODELS if "fitted" in summary_of(runs / model)] == [
        "temperature_scaling"
    ]


@pytest.mark.parametrize("damage", ["missing", "none", "of one seed", "NaN"])
def test_without_what_was_fitted_there_are_heads_but_no_predictions_until_it_is_tested(
    runs: Path, small_data: Dataset, tmp_path: Path, damage: str
) -> None:
    folder = Path(shutil.copytree(runs / "temperature_scaling", tmp_path / "run"))
    expected = trained.load(folder).log_probs(small_data.test.images)
    summary = summary_of(folder)
    fitted = {"none": None, "of one seed": summary["fitted"][:1], "NaN": [float("nan")] * 2}
    if damage == "missing":
        del summary["fitted"]
    else:
        summary["fitted"] = fitted[damage]
    write_json(folder / "summary.json", summary)
    found = trained.load(folder)
    assert found.heads(small_data.test.images).logits.shape == (2, 200, 10)
    with pytest.raises(UserError, match=f"run experiments.mnist --mode=test --savedir={folder}"):
        found.log_probs(small_data.test.images)
    run.test(found.config, small_data, folder)
    again = trained.load(folder).log_probs(small_data.test.images)
    np.testing.assert_allclose(again, expected, atol=1e-6)


def test_what_was_fitted_to_a_later_state_is_not_used(
    runs: Path, small_data: Dataset, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(runs / "temperature_scaling", tmp_path / "run"))
    shutil.rmtree(folder / "checkpoints" / "60")
    with pytest.raises(UserError, match="--mode=test"):
        trained.load(folder).log_probs(small_data.test.images)


def test_the_data_need_not_be_there(runs: Path, small_data: Dataset, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs / "dropmax", tmp_path / "run"))
    config = read_config(folder / "config.json")
    config = dataclasses.replace(config, mnist_path=str(tmp_path / "gone"))
    write_json(folder / "config.json", config.to_json())
    found, before = trained.load(str(folder)), trained.load(runs / "dropmax")
    images = small_data.test.images[:7]
    np.testing.assert_array_equal(found.log_probs(images), before.log_probs(images))
    with pytest.raises(UserError, match="gone"):
        trained.load_data(found)
    assert trained.load_data(before).note == small_data.note


def test_works_in_any_thread_and_within_an_event_loop(runs: Path, small_data: Dataset) -> None:
    images = small_data.test.images[:7]
    results = []

    def predict() -> None:
        results.append(trained.load(runs / "softmax").log_probs(images))

    async def notebook() -> None:
        predict()

    predict()
    asyncio.run(notebook())
    thread = threading.Thread(target=predict)
    thread.start()
    thread.join()
    assert len(results) == 3
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_one_image_is_predicted_as_among_others(runs: Path, small_data: Dataset) -> None:
    found = trained.load(runs / "dropmax")
    together = found.log_probs(small_data.test.images)
    one = found.log_probs(small_data.test.images[123:124])
    np.testing.assert_allclose(one, together[:, 123:124], atol=1e-5)


def test_images_may_be_arrays_of_jax(runs: Path, small_data: Dataset) -> None:
    found, images = trained.load(runs / "softmax"), small_data.test.images[:3]
    np.testing.assert_array_equal(found.log_probs(jnp.asarray(images)), found.log_probs(images))


@pytest.mark.parametrize(
    ("images", "shown"),
    [
        (np.zeros((2, 28, 28)), r"float64 \[2, 28, 28\]"),
        (np.zeros((2, 28, 28), np.int32), r"int32 \[2, 28, 28\]"),
        (np.zeros((28, 28), np.uint8), r"uint8 \[28, 28\]"),
        (np.zeros((2, 28, 28, 1), np.uint8), r"uint8 \[2, 28, 28, 1\]"),
        (np.zeros((2, 32, 32), np.uint8), r"uint8 \[2, 32, 32\]"),
        (np.zeros((0, 28, 28), np.uint8), r"uint8 \[0, 28, 28\]"),
        ([[1, 2]], r"int64 \[1, 2\]"),
    ],
)
def test_other_arrays_are_refused_with_their_shape_and_type(
    runs: Path, images: Any, shown: str
) -> None:
    found = trained.load(runs / "softmax")
    for use in (found.heads, found.log_probs):
        with pytest.raises(ValueError, match=rf"images must be uint8 \[N, 28, 28\].*{shown}"):
            use(images)


def test_reading_writes_nothing_not_even_a_lock(runs: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs / "dropmax", tmp_path / "run"))
    (folder / ".lock").unlink()
    (folder / ".dropmax_unfinished.x").write_text("left by a run that was killed")
    before = files_under(folder)
    trained.load(folder)
    assert files_under(folder) == before
    assert not (folder / ".lock").exists()


def test_a_damaged_checkpoint_is_left_out_and_left_there(
    runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(runs / "dropmax", tmp_path / "run"))
    (folder / "checkpoints" / "60" / "sha256.json").write_text('{"no such file": ""}')
    before = files_under(folder)
    found = trained.load(folder)
    stdout, stderr = capfd.readouterr()
    # Commands may print JSON on stdout.
    assert stdout == ""
    assert stderr == "the checkpoint of step 60 is damaged (no such file is missing): left out\n"
    assert files_under(folder) == before
    newest = trained.load(runs / "dropmax")
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, found.params, newest.params)))


@pytest.mark.parametrize("what", ["folder", "config.json", "checkpoints", "checkpoint"])
def test_what_is_no_run_is_told_in_a_line(runs: Path, tmp_path: Path, what: str) -> None:
    folder = Path(shutil.copytree(runs / "dropmax", tmp_path / "run"))
    if what == "config.json":
        (folder / what).unlink()
    else:
        shutil.rmtree({"folder": folder}.get(what, folder / "checkpoints"))
    if what == "checkpoint":
        (folder / "checkpoints").mkdir()
    message = "checkpoint" if what.startswith("check") else "run"
    with pytest.raises(UserError, match=f"there is no {message} in"):
        trained.load(folder)


def test_the_readmes_example_runs(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "dropmax").symlink_to(runs / "dropmax")
    monkeypatch.chdir(tmp_path)
    (example,) = blocks(DOCS / "own_digits.md", "python")
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["log_probs"].shape == names["retained"].shape == (2, 5, 10)
    np.testing.assert_allclose(np.exp(names["log_probs"]).sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize(("dataset", "name"), [("mnist", "mnist"), ("folder:pets", "images")])
def test_a_lost_checkpoint_is_trained_again_by_the_command_for_its_data(
    tmp_path: Path, dataset: str, name: str
) -> None:
    write_json(tmp_path / "config.json", Config(dataset=dataset).to_json())
    with pytest.raises(UserError, match=rf"train with experiments\.{name} --resume"):
        trained.load(tmp_path)
