import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dropmax_jax.networks import NETWORKS
from experiments import config, data, run
from experiments.config import Config
from tests.experiments.fake_mnist import write_mnist
from tests.experiments.tiny import Tiny


@pytest.fixture(scope="session")
def mnist_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IDX files of 1,300 training images and 200 test images."""
    folder = tmp_path_factory.mktemp("digits", numbered=False)
    write_mnist(folder, train_per_class=130, test_per_class=20)
    return folder


@pytest.fixture(scope="session")
def small_data(mnist_folder: Path) -> data.Dataset:
    """200 training images, 1,000 to validate on, 200 to test on."""
    return data.load(mnist_path=mnist_folder, train_per_class=20)


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
        patch.setattr(config, "NETWORKS", tuple(NETWORKS))
        yield


@pytest.fixture(autouse=True)
def _unchanged_environment() -> Iterator[None]:
    """The command sets variables for the JAX it imports later."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def finished_run(
    small_data: data.Dataset, mnist_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a finished run: softmax, `tiny`, seeds 0 and 1, 3 epochs of 25 steps.

    Not to be changed: tests that write copy it.
    """
    folder = tmp_path_factory.mktemp("finished") / "run"
    settings = Config(
        "softmax",
        network="tiny",
        mnist_path=str(mnist_folder),
        train_per_class=20,
        batch_size=8,
        num_epochs=3,
        seeds=(0, 1),
    )
    settings = settings.on(small_data.name, data.fingerprint(small_data))
    run.train(settings, small_data, folder, save_every=1)
    return folder
