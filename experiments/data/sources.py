"""What every source of images takes and gives.

A source is a module of this folder with a function `load(request: Request) -> SourceData`. The rows
of `catalogue` name it.
"""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from experiments.data.split import Split


class Request(NamedTuple):
    """Which data to read, and where they are.

    Attributes:
        name: Of the data set's row.
        data_path: A folder or file of the data, instead of any download.
        data_dir: Folder of TensorFlow Datasets; None for its default, `~/tensorflow_datasets` or
            `$TFDS_DATA_DIR`.
        num_classes: How many classes to take; None for the usual number.
        image_size: Height and width in pixels to which images are resized; None for the usual one.
    """

    name: str
    data_path: str | os.PathLike[str] | None = None
    data_dir: str | os.PathLike[str] | None = None
    num_classes: int | None = None
    image_size: int | None = None


class SourceData(NamedTuple):
    """What a source holds.

    Attributes:
        name: What the data are called in reports: the row's name, which may go on with a detail
            after a colon.
        pool: Images from which the training and validation sets are taken.
        test: The test set.
        note: One line that says which data these are and what this means for the figures.
        class_names: Of the classes, in the order of the labels.
        validation: The validation set, if the pool holds training images alone.
        other_tests: Further test sets, by name.
    """

    name: str
    pool: Split
    test: Split
    note: str
    class_names: tuple[str, ...]
    validation: Split | None = None
    other_tests: Mapping[str, Split] = {}


def safe_name(name: str) -> str:
    """A name that can be part of a data set's: letters, digits, dots, dashes and underscores.

    Example:
        >>> safe_name("my pets (2024)")
        'my_pets_2024_'
    """
    return re.sub(r"[^\w.-]+", "_", name) or "unnamed"
