"""The flags of commands that use a trained run: the run's folder, and the file to make of it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.cli.command import Flags
from experiments.cli.config_flags import results_folder
from experiments.cli.errors import UserError
from experiments.cli.kinds import DATA_FOLDER, PATH, choice
from experiments.data.catalogue import ROWS
from experiments.runtime.files import is_read_only


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


def place_for(name: str, folder: Path) -> Path:
    """Where a command writes by default: in a folder, or here if that is on read-only media."""
    return (Path() if is_read_only(folder) else folder) / name


def define_output(own: Flags, name: str, of_run: str) -> Callable[[Path], Path]:
    """Defines `--output`, the file that the command writes.

    Args:
        own: The command's flags.
        name: Of the file, by default; the flag's must end in the same way.
        of_run: The flag of the run's folder.

    Returns:
        A function of the run's folder that gives the file, after parsing.
    """
    suffix = Path(name).suffix
    output = own.define(
        "output",
        None,
        f"{suffix[1:].upper()} to write (default: {name} in --{of_run}, or here if that is "
        "read-only)",
        PATH,
    )

    def value(folder: Path) -> Path:
        if output.value is None:
            return place_for(name, folder)
        file = Path(output.value)
        if file.suffix.lower() != suffix:
            raise UserError(f"--output={file} must end in {suffix}")
        if not os.path.isdir(file.parent) or os.path.isdir(file):
            raise UserError(f"--output={file} must be a file in a folder that is there")
        return file

    return value
