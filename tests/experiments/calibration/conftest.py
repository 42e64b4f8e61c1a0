from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from experiments import trained
from experiments.calibration import comparison, predictions
from experiments.data.datasets import Dataset
from experiments.train.config import Config
from experiments.trained import TrainedRun
from tests.experiments.calibration.results import NAMES


@pytest.fixture(scope="package", autouse=True)
def _programs_are_kept() -> Iterator[None]:
    """Programs are compiled once for all runs here; tests of runs check that runs forget them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "clear_caches", lambda: None)
        yield


@pytest.fixture(scope="package")
def config(mnist_folder: Path) -> Config:
    return Config(
        "softmax",
        dataset="auto",
        mnist_path=str(mnist_folder),
        network="tiny",
        train_per_class=20,
        num_epochs=3,
        batch_size=20,
        seeds=(0, 1),
    )


@pytest.fixture(scope="package")
def finished(config: Config, small_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment on two variants; tests that write copy it."""
    folder = tmp_path_factory.mktemp("calibration") / "finished"
    comparison.compare(config, small_data, NAMES, folder)
    return folder


@pytest.fixture(scope="package")
def models(finished: Path) -> dict[str, TrainedRun]:
    """The models that were trained on clean images."""
    return {model: trained.load(finished / "clean" / model) for model in predictions.PREDICTORS}
