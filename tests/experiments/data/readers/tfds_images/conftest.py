from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.experiments.data.readers.tfds_images.mnist import FILES
from tests.experiments.data.tfds_host import hosting
from tests.experiments.fake_mnist import write_mnist


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_mnist(folder, train_per_class=104, test_per_class=3)
    return folder


@pytest.fixture
def host(files: Path) -> Iterator[str]:
    tfds = pytest.importorskip("tensorflow_datasets")
    with hosting(tfds.image_classification.MNIST, files, FILES) as url:
        yield url
