"""The data sets that TensorFlow Datasets (tfds) makes from IDX files, the format of MNIST."""

import contextlib
import itertools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.cli.errors import UserError
from experiments.data.readers import idx, tfds_images
from experiments.data.readers.tfds_images import Examples, TfdsSet


def emnist_kinds(part: str) -> tuple[str, ...]:
    """What the names of the files of a part of EMNIST start with, in the order of `idx.KINDS`.

    Example:
        >>> emnist_kinds("letters")[2]
        'emnist-letters-test-images'
    """
    return tuple(f"emnist-{part}-{kind.replace('t10k', 'test')}" for kind in idx.KINDS)


@contextlib.contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.Path]:
    """The root of a zip archive, of which nothing is unpacked to disk.

    Raises:
        UserError: It cannot be read.
    """
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    # A damaged one also asks for what zipfile cannot do, or has names that are none.
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a zip archive: {error}") from error
    with archive:
        yield zipfile.Path(archive)


def _four_files(files: Mapping[str, Path], builder: Any) -> dict[str, Examples]:
    """The examples of MNIST and of the sets whose files have the same names."""
    del builder
    return {
        split: _examples(
            files[f"{prefix}-images-idx3-ubyte.gz"], files[f"{prefix}-labels-idx1-ubyte.gz"]
        )
        for split, prefix in (("train", "train"), ("test", "t10k"))
    }


def _examples(images: idx.AnyPath, labels: idx.AnyPath, allowed: range = range(10)) -> Examples:
    split = idx.read_split(images, labels, allowed)
    # The index is the key of tfds's own builders: keys decide on the records' order.
    for index, (image, label) in enumerate(zip(*split, strict=True)):
        yield index, {"image": tfds_images.png(image), "label": int(label)}


def _emnist(part: str, labels: range) -> TfdsSet:
    def examples(files: Mapping[str, Path], builder: Any) -> dict[str, Examples]:
        path, config = files["gzip.zip"], builder.builder_config
        return {
            "train": from_archive(path, "train", config.train_examples),
            "test": from_archive(path, "test", config.test_examples),
        }

    def from_archive(path: Path, split: str, most: int) -> Examples:
        with opened_zip(path) as root:
            start = root / "gzip"
            every = _examples(
                start / f"emnist-{part}-{split}-images-idx3-ubyte.gz",
                start / f"emnist-{part}-{split}-labels-idx1-ubyte.gz",
                labels,
            )
            # tfds takes the first only: of the letters, 88,800 of 124,800 to train on.
            yield from itertools.islice(every, most)

    return TfdsSet(f"EMNIST {part}", "EMNIST", examples, labels, config=part)


MNIST = TfdsSet("MNIST", "MNIST", _four_files)
FASHION_MNIST = TfdsSet("Fashion-MNIST", "FashionMNIST", _four_files)
KMNIST = TfdsSet("KMNIST", "KMNIST", _four_files)
EMNIST_BALANCED = _emnist("balanced", range(47))
# tfds keeps the labels of the files, in which A is 1.
EMNIST_LETTERS = _emnist("letters", range(1, 27))
