from pathlib import Path

import pytest

from experiments.data.datasets import Dataset
from experiments.train import run
from experiments.train.config import Config
from tests.experiments.conftest import MakeConfig

STEPS_PER_EPOCH = 25


@pytest.fixture(scope="session")
def dropmax_config(small_config: MakeConfig) -> Config:
    return small_config("dropmax", batch_size=8, num_epochs=4)


@pytest.fixture(scope="session")
def dropmax_run(
    dropmax_config: Config, small_data: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run that nothing interrupted; do not change it."""
    folder = tmp_path_factory.mktemp("dropmax") / "run"
    run.train(dropmax_config, small_data, folder, save_every=1)
    return folder
