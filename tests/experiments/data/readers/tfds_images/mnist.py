"""MNIST as tfds reads it, of which the tests have few images."""

from pathlib import Path

import numpy as np
import pytest

from experiments.data.readers import tfds_idx, tfds_images
from experiments.data.split import Split

FILES = [
    f"{prefix}-{kind}-ubyte.gz"
    for prefix in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
]


def load(data_dir: Path) -> tuple[Split, Split]:
    return tfds_images.load(tfds_idx.MNIST, data_dir, timeout=5)[:2]


def version_folder(data_dir: Path) -> Path:
    tfds = pytest.importorskip("tensorflow_datasets")
    return data_dir / "mnist" / str(tfds.image_classification.MNIST.VERSION)


def assert_same_order(a: tuple[Split, Split], b: tuple[Split, Split]) -> None:
    for split, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(split.images, other.images)
        np.testing.assert_array_equal(split.labels, other.labels)
