import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.data import datasets
from experiments.data.datasets import Dataset
from experiments.networks import NETWORKS
from experiments.train import config, run
from experiments.train.config import Config
from tests.experiments.fake_mnist import write_mnist
from tests.experiments.tiny import Tiny

MakeConfig = Callable[..., Config]


@pytest.fixture(scope="session")
def mnist_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IDX files of 1,300 training images and 200 test images."""
    folder = tmp_path_factory.mktemp("digits", numbered=False)
    write_mnist(folder, train_per_class=130, test_per_class=20)
    return folder


@pytest.fixture(scope="session")
def small_data(mnist_folder: Path) -> Dataset:
    """200 training images, 1,000 to validate on, 200 to test on."""
    return datasets.load(mnist_path=mnist_folder, train_per_class=20)


@pytest.fixture(scope="session")
def small_config(small_data: Dataset, mnist_folder: Path) -> MakeConfig:
    """Makes configurations of `tiny` on `small_data`, from a model and more settings."""

    def make(model: str, **settings: Any) -> Config:
        path = str(mnist_folder)
        own = Config(model, network="tiny", mnist_path=path, train_per_class=20, **settings)
        return datasets.configured(own, small_data)

    return make


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the home, as for a container's user, who has no entry in passwd to find it by."""

    def getpwuid(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", getpwuid)
    monkeypatch.delenv("HOME")


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the working directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _tiny() -> Iterator[None]:
    """Adds the network `tiny`, which compiles at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "tiny", Tiny)
        config.NETWORK_NAMES.append("tiny")
        yield
        config.NETWORK_NAMES.remove("tiny")


@pytest.fixture(autouse=True)
def _unchanged_environment() -> Iterator[None]:
    """The command sets variables for the JAX it imports later."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def finished_run(
    small_data: Dataset, small_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a finished run: softmax, `tiny`, seeds 0 and 1, 3 epochs of 25 steps.

    Do not change it: tests that write copy it.
    """
    folder = tmp_path_factory.mktemp("finished") / "run"
    settings = small_config("softmax", batch_size=8, num_epochs=3, seeds=(0, 1))
    run.train(settings, small_data, folder, save_every=1)
    return folder
