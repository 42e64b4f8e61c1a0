"""Trains a method on images of any kind and reports its test error: `python -m experiments.images`.

`--dataset` names a row of the table in `experiments.data.catalogue`. Its recipe decides on the
flags that are not given, such as the network and the number of epochs; `config.json` records them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.cli import command
from experiments.cli.config_flags import ConfigFlags, results_folder
from experiments.cli.errors import UserError
from experiments.cli.train_command import TrainCommand
from experiments.data.catalogue import ROWS


def config_flags(own: command.Flags) -> ConfigFlags:
    """Defines the flags that say what to train."""
    return ConfigFlags(own, without=("mnist_path",), dataset=None)


def _folder(values: Mapping[str, Any]) -> Path:
    if values["dataset"] is None:
        raise UserError(f"name the images: --dataset={'|'.join(ROWS)}")
    return results_folder(values["dataset"], values["model"])


FLAGS = command.Flags()
_CONFIG = config_flags(FLAGS)
_COMMAND = TrainCommand(FLAGS, _CONFIG, "results/DATASET/MODEL", _folder)


def main() -> None:
    """Runs the command."""
    _COMMAND.main()


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
