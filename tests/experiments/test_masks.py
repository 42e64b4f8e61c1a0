"""The picture of retain probabilities, and the runs it is drawn from."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import masks
from experiments.cli.errors import UserError
from experiments.data.datasets import Dataset
from experiments.data.split import Split
from experiments.reports import plots
from experiments.runtime.files import locked_folder, write_json
from experiments.train import run
from experiments.train.config import Config, read_config
from experiments.trained import load, load_data
from tests.dropmax_jax import oracle
from tests.experiments.runner import files_under, run_here


@pytest.fixture
def dropmax_logit_run(finished_run: Path, small_data: Dataset, tmp_path: Path) -> Path:
    """A run of one epoch."""
    config = read_config(finished_run / "config.json")
    config = dataclasses.replace(config, model="dropmax_logit", num_epochs=1, seeds=(0,))
    run.train(config, small_data, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("num_saved", [0, 1, 3, 6])
def test_draws_only_images_that_the_mask_puts_right(
    monkeypatch: pytest.MonkeyPatch, num_saved: int
) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40, dtype=np.int32) % 10
    images = rng.integers(0, 256, (40, 28, 28)).astype(np.uint8)
    softmax, retained, dropmax = (rng.dirichlet(np.ones(10), 40) for _ in range(3))
    # All are right both ways; then some are wrong by the logits alone and right with the mask.
    softmax[:], dropmax[:] = np.eye(10)[labels], np.eye(10)[labels]
    saved = np.arange(num_saved) + 7
    softmax[saved] = np.eye(10)[(labels[saved] + 1) % 10]
    softmax[saved] -= 0.01 * np.arange(num_saved)[:, None]
    assert plots.saved_by_mask(labels, softmax, dropmax).tolist() == saved[::-1].tolist()
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, _: drawn.append(figure))
    plots.masks(Split(images, labels), retained, softmax, dropmax, Path("none.png"))
    panels = [axes for axes in drawn[0].axes if axes.get_xlim() == (-0.5, 27.5)]
    shown = [axes.get_images()[0].get_array() for axes in panels]
    expected = images[saved[::-1][:4]]
    np.testing.assert_array_equal(np.reshape(np.array(shown), expected.shape), expected)


def test_the_model_predicts_in_its_own_way(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    dropmax_logit_run: Path,
    tmp_path: Path,
) -> None:
    """`dropmax_logit` multiplies logits, not probabilities."""
    drawn: list[np.ndarray] = []
    monkeypatch.setattr(plots, "masks", lambda *given: drawn.extend(given[1:4]))
    output = f"--output={tmp_path / 'masks.png'}"
    outcome = run_here(capfd, f"--savedir={dropmax_logit_run}", output, module=masks)
    assert outcome.code == 0, outcome.stderr
    retained, softmax, masked = drawn
    # A softmax fixes logits up to a constant, but the mask depends on the constant.
    trained = load(dropmax_logit_run)
    logits = np.asarray(trained.heads(load_data(trained).test.images).logits[0])
    np.testing.assert_allclose(softmax, np.exp(oracle.log_softmax(logits)), rtol=1e-4, atol=1e-6)
    expected = np.exp(oracle.log_softmax(retained * logits))
    np.testing.assert_allclose(masked, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("no/such/masks.png", "must be a file in a folder that is there"),
        ("folder.png", "must be a file in a folder that is there"),
        ("masks.txt", "must end in .png"),
        ("masks", "must end in .png"),
        ("", "--output=: must be a path"),
    ],
)
def test_an_impossible_output_is_refused_before_anything_is_loaded(
    capfd: pytest.CaptureFixture[str], in_tmp_path: Path, output: str, message: str
) -> None:
    (in_tmp_path / "folder.png").mkdir()
    outcome = run_here(capfd, "--savedir=none", f"--output={output}", module=masks)
    assert outcome.code == 2
    assert message in outcome.stderr


def test_a_model_without_masks_is_refused(
    capfd: pytest.CaptureFixture[str], finished_run: Path, tmp_path: Path
) -> None:
    output = tmp_path / "masks.png"
    arguments = (f"--savedir={finished_run}", f"--output={output}")
    outcome = run_here(capfd, *arguments, module=masks)
    assert outcome.code == 2
    assert "has no retain probabilities" in outcome.stderr
    assert not output.exists()


def test_a_folder_without_a_run_is_refused(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    outcome = run_here(capfd, f"--savedir={tmp_path}", module=masks)
    assert outcome.code == 2
    assert f"there is no run in {tmp_path}" in outcome.stderr


def test_a_run_on_other_data_is_not_loaded(finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    config: Config = read_config(folder / "config.json")
    write_json(folder / "config.json", {**config.to_json(), "data_fingerprint": "another"})
    with pytest.raises(UserError, match="trained on other data"):
        load_data(load(folder))


def test_a_run_under_way_is_refused_and_left_alone(finished_run: Path, tmp_path: Path) -> None:
    """Reading removes neither the checkpoint that is being written nor anything else."""
    folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
    unfinished = folder / "checkpoints" / "100.orbax-checkpoint-tmp"
    unfinished.mkdir()
    with locked_folder(folder), pytest.raises(UserError, match="another run is using"):
        load(folder)
    before = files_under(folder)
    load(folder)
    assert files_under(folder) == before
    assert unfinished.exists()
