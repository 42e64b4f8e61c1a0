"""The flags that name a run, for the commands that use one that is trained."""

from collections.abc import Callable
from pathlib import Path

from experiments.cli.command import Flags
from experiments.cli.config_flags import results_folder
from experiments.cli.kinds import PATH, choice
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
