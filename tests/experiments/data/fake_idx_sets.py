"""Small files of Fashion-MNIST, KMNIST and EMNIST for tests, in their official formats."""

import gzip
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data import idx_sets
from experiments.data.catalogue import ROWS
from experiments.data.sources import Request, SourceData
from experiments.data.split import Split
from tests.experiments.fake_mnist import idx_bytes

FOUR_FILES = ["fashion_mnist", "kmnist"]
EMNIST = ["emnist_balanced", "emnist_letters"]
NAMES = FOUR_FILES + EMNIST


class Made(NamedTuple):
    """What was made up of a data set, upright and with labels from 0 on."""

    name: str
    folder: Path
    train: Split
    test: Split


def made_split(name: str, per_class: int, seed: int) -> Split:
    """Images with a bar at the top whose length tells the class, and some noise below."""
    num_classes = len(ROWS[name].class_names)
    labels = np.tile(np.arange(num_classes, dtype=np.int32), per_class)
    images = np.zeros((len(labels), 28, 28), np.uint8)
    images[:, 20:] = np.random.default_rng(seed).integers(0, 256, (len(labels), 8, 28))
    images[:, :14] = 200 * (np.arange(28 * 14).reshape(14, 28) < 8 * (labels[:, None, None] + 1))
    return Split(images, labels)


def contents(name: str, train: Split, test: Split) -> dict[str, bytes]:
    """The official files of a data set, by their names without `.gz`."""
    files = {}
    is_emnist = name.startswith("emnist")
    for prefix, split in (("train", train), ("test" if is_emnist else "t10k", test)):
        start = f"{name.replace('_', '-')}-{prefix}" if is_emnist else prefix
        pixels = split.images.transpose(0, 2, 1) if is_emnist else split.images
        files[f"{start}-images-idx3-ubyte"] = idx_bytes(pixels)
        first = 1 if name == "emnist_letters" else 0
        files[f"{start}-labels-idx1-ubyte"] = idx_bytes(split.labels + first)
    return files


def write(folder: Path, files: dict[str, bytes], gz: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / (f"{name}.gz" if gz else name)
        path.write_bytes(gzip.compress(content, 1, mtime=0) if gz else content)


def zipped(path: Path, files: dict[str, bytes], inside: str = "gzip/") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{inside}{name}.gz", gzip.compress(content, 1, mtime=0))
    return path


def made_of(name: str, folder: Path) -> Made:
    """Writes a small data set as its authors distribute it."""
    made = Made(name, folder, made_split(name, 4, 0), made_split(name, 2, 1))
    files = contents(name, made.train, made.test)
    if name in EMNIST:
        zipped(folder / "gzip.zip", files)
    else:
        write(folder, files)
    return made


def load(name: str, path: Path) -> SourceData:
    return idx_sets.load(Request(name, path))


def assert_same(split: Split, expected: Split) -> None:
    np.testing.assert_array_equal(split.images, expected.images)
    np.testing.assert_array_equal(split.labels, expected.labels)
    assert split.images.dtype == np.uint8
    assert split.labels.dtype == np.int32
