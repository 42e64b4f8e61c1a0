"""The picture of retain probabilities, and the runs it is drawn from."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments import masks, plots
from experiments.config import Config, read_config
from experiments.errors import UserError
from experiments.files import locked_folder, write_json
from experiments.split import Split
from experiments.trained import load
from tests.experiments.runner import run_here


def test_draws_images_that_the_mask_puts_right(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40, dtype=np.int32) % 10
    images = rng.integers(0, 256, (40, 28, 28)).astype(np.uint8)
    softmax, retained, dropmax = (rng.dirichlet(np.ones(10), 40) for _ in range(3))
    # Wrong by the logits alone, right with the mask.
    softmax[:4], dropmax[:4] = np.eye(10)[(labels[:4] + 1) % 10], np.eye(10)[labels[:4]]
    plots.masks(Split(images, labels), retained, softmax, dropmax, tmp_path / "masks.png")
    assert (tmp_path / "masks.png").stat().st_size > 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["masks.png"]


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
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    config: Config = read_config(run / "config.json")
    write_json(run / "config.json", {**config.to_json(), "data_fingerprint": "another"})
    with pytest.raises(UserError, match="trained on other data"):
        load(run)


def test_a_run_under_way_is_refused_and_left_alone(finished_run: Path, tmp_path: Path) -> None:
    """Opening its checkpoints would remove the one that is being written."""
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    unfinished = run / "checkpoints" / "100.orbax-checkpoint-tmp"
    unfinished.mkdir()
    with locked_folder(run):
        with pytest.raises(UserError, match="another run is using"):
            load(run)
        assert unfinished.exists()
    load(run)
    assert not unfinished.exists()
