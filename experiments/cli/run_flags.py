"""The flags that name a run, for the commands that use one that is trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.cli.command import Flags
from experiments.cli.config_flags import results_folder
from experiments.cli.kinds import DATA_FOLDER, PATH, choice
from experiments.data.catalogue import ROWS


def define(own: Flags, name: str) -> Callable[[], Path]:
    """Defines the flag of the run's folder, and `--dataset`, on which its default depends.

    Args:
        own: The command's flags.
        name: What the flag is called.

    Returns:
        A function that gives the folder, after parsing.
    """
    folder = own.define(
        name,
        None,
        "folder of a run of experiments.mnist or experiments.images (default: results/dropmax, or "
        "results/DATASET/dropmax with --dataset)",
        PATH,
    )
    dataset = own.define(
        "dataset", None, f"decides on the default of --{name}, and on nothing else", choice([*ROWS])
    )

    def value() -> Path:
        if folder.value is not None:
            return Path(folder.value)
        return results_folder(dataset.value or "mnist", "dropmax")

    return value


def define_data(own: Flags) -> tuple[Any, Any]:
    """Defines `--mnist_path` and `--data_path`, for data that are not where the run found them."""
    mnist_path = own.define(
        "mnist_path",
        None,
        "folder of MNIST's four IDX files, if it is not where the run found it",
        PATH,
    )
    data_path = own.define(
        "data_path",
        None,
        "folder or file of another data set, if it is not where the run found it",
        DATA_FOLDER,
    )
    return mnist_path, data_path
