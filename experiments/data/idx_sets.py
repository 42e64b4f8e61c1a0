"""Fashion-MNIST, KMNIST and parts of EMNIST, whose files have the format of MNIST's.

References:
    - Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017, https://arxiv.org/abs/1708.07747
    - Clanuwat et al., Deep Learning for Classical Japanese Literature, 2018,
      https://arxiv.org/abs/1812.01718
    - Cohen, Afshar, Tapson and van Schaik, EMNIST, 2017, https://arxiv.org/abs/1702.05373
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.cli.errors import UserError
from experiments.data import mnist
from experiments.data.catalogue import ROWS
from experiments.data.readers import idx, tfds_idx, tfds_images
from experiments.data.sources import Request, SourceData
from experiments.data.split import Split

_ARCHIVE = "gzip.zip"


class _IdxSet(NamedTuple):
    """A data set of IDX files.

    Attributes:
        tfds: How TensorFlow Datasets knows it.
        sizes: How many training and test images are official.
        kinds: What its files' names start with, in the order of `idx.KINDS`.
        folders: Where its files can be below the folder that the user names.
        transposed: Whether the files have rows for columns.
    """

    tfds: tfds_images.TfdsSet
    sizes: tuple[int, int]
    kinds: tuple[str, ...] = idx.KINDS
    folders: tuple[str, ...] = ("raw",)
    transposed: bool = False


def _emnist(tfds: tfds_images.TfdsSet, sizes: tuple[int, int]) -> _IdxSet:
    assert tfds.config is not None
    # NIST's archive has a folder `gzip`; torchvision unpacks into `EMNIST/raw`.
    folders = ("gzip", "raw", "raw/gzip", "EMNIST/raw", "EMNIST/raw/gzip")
    return _IdxSet(tfds, sizes, tfds_idx.emnist_kinds(tfds.config), folders, transposed=True)


_SETS = {
    "fashion_mnist": _IdxSet(
        tfds_idx.FASHION_MNIST, (60_000, 10_000), folders=("raw", "FashionMNIST/raw")
    ),
    "kmnist": _IdxSet(tfds_idx.KMNIST, (60_000, 10_000), folders=("raw", "KMNIST/raw")),
    "emnist_balanced": _emnist(tfds_idx.EMNIST_BALANCED, (112_800, 18_800)),
    # Of the files; tfds keeps 88,800 and 14,800 of them, as many as the paper counts.
    "emnist_letters": _emnist(tfds_idx.EMNIST_LETTERS, (124_800, 20_800)),
}


def load(request: Request) -> SourceData:
    """Reads a data set from its files, or from TensorFlow Datasets.

    Raises:
        UserError: The data cannot be had or read, or are not what was asked for.
    """
    this = _SETS[request.name]
    title = this.tfds.title
    if request.data_path is None:
        files = "the four IDX files"
        if this.kinds != idx.KINDS:
            files += f" {this.kinds[0]}-idx3-ubyte.gz and so on, or the archive {_ARCHIVE}"
        advice = f"pass --data_path=DIR, a folder of {files}"
        pool, test, _ = tfds_images.load_or_advise(this.tfds, request.data_dir, advice)
        origin = "from TensorFlow Datasets, whose records are shuffled"
    else:
        # A shell leaves the tilde of --data_path=~/images alone.
        path = Path(os.path.expanduser(request.data_path))
        pool, test = _read(this, path)
        if mnist.is_mnist(pool, test):
            raise UserError(f"--dataset={request.name}: the files in {path} are MNIST's")
        origin = f"from {path}, in file order"
    sizes = (len(pool.labels), len(test.labels))
    note = f"{title} {origin}: {sizes[0]:,} images to train and validate on, {sizes[1]:,} to test"
    if sizes != this.sizes:
        note += f" (all of it has {this.sizes[0]:,} and {this.sizes[1]:,})"
    names = ROWS[request.name].class_names
    return SourceData(request.name, _usual(this, pool), _usual(this, test), note, names)


def _read(this: _IdxSet, path: Path) -> tuple[Split, Split]:
    """The two sets as the files hold them."""
    can_be_archive = this.kinds != idx.KINDS
    if not (can_be_archive and path.is_file()):
        folder = idx.find_folder(path, this.kinds, this.folders)
        archive = folder / _ARCHIVE
        whole = idx.is_complete(folder, this.kinds)
        if whole or not (can_be_archive and archive.is_file()):
            return idx.read_folder(folder, this.kinds, this.tfds.labels)
        path = archive
    with tfds_idx.opened_zip(path) as root:
        inside = root / "gzip"
        place = inside if idx.is_complete(inside, this.kinds) else root
        return idx.read_folder(place, this.kinds, this.tfds.labels)


def _usual(this: _IdxSet, split: Split) -> Split:
    """Turns images upright, and lets labels start at 0."""
    images = split.images
    if this.transposed:
        images = np.ascontiguousarray(images.transpose(0, 2, 1))
    return Split(images, split.labels - np.int32(this.tfds.labels[0]))
