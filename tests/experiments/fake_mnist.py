"""Small MNIST files for tests: real digits, so that a network can learn on them."""

import gzip
from pathlib import Path

import numpy as np

from experiments.data import mnist_5k
from experiments.data.split import Split


def write_mnist(
    folder: Path, *, train_per_class: int = 220, test_per_class: int = 20, gz: bool = True
) -> tuple[Split, Split]:
    """Writes the four IDX files into ``folder``; returns the training and test sets they hold.

    The digits are those of mnist_5k, at most 500 a class for both sets together. The classes
    alternate, so that the head of a file holds all of them.
    """
    pool = mnist_5k.read()
    # mnist_5k is sorted by class.
    places = np.arange(len(pool.labels)).reshape(10, mnist_5k.IMAGES_PER_CLASS)
    assert train_per_class + test_per_class <= places.shape[1]
    folder.mkdir(parents=True, exist_ok=True)
    splits = []
    for prefix, chosen in (
        ("train", places[:, :train_per_class]),
        ("t10k", places[:, places.shape[1] - test_per_class :]),
    ):
        order = chosen.T.ravel()
        split = Split(pool.images[order], pool.labels[order])
        write_idx(folder / f"{prefix}-images-idx3-ubyte", split.images, gz=gz)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", split.labels, gz=gz)
        splits.append(split)
    return splits[0], splits[1]


def write_idx(path: Path, array: np.ndarray, *, gz: bool = False) -> Path:
    """Writes an IDX file of unsigned bytes, with ``.gz`` added to its name if zipped."""
    data = idx_bytes(array)
    if gz:
        path = path.with_name(f"{path.name}.gz")
        data = gzip.compress(data, mtime=0)
    path.write_bytes(data)
    return path


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    magic = bytes([0, 0, 8, array.ndim])
    return magic + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()
