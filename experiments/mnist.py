"""Trains a method on MNIST and reports its test error: `python -m experiments.mnist`."""

from pathlib import Path

from experiments.cli import command
from experiments.cli.config_flags import MNIST_DATASETS, NOT_FOR_MNIST, ConfigFlags
from experiments.cli.train_command import TrainCommand


def config_flags(own: command.Flags) -> ConfigFlags:
    """Defines the flags that say what to train."""
    return ConfigFlags(own, without=NOT_FOR_MNIST, datasets=MNIST_DATASETS)


FLAGS = command.Flags()
_CONFIG = config_flags(FLAGS)
_COMMAND = TrainCommand(
    FLAGS, _CONFIG, "results/MODEL", lambda values: Path("results", values["model"])
)


def main() -> None:
    """Runs the command."""
    _COMMAND.main()


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
