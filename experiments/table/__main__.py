"""Trains methods and writes the paper's table with error bars: `python -m experiments.table`."""

import dataclasses
import sys
from typing import TYPE_CHECKING

from experiments.cli import command, data_flags
from experiments.cli.errors import RunFailedError, UserError
from experiments.train.config import NETWORKS, Config, method_names

if TYPE_CHECKING:
    from experiments.data import Dataset

FLAGS = command.Flags()
_MODELS = FLAGS.strings("models", None, "methods to compare (default: all)")
_NETWORK = FLAGS.choice("network", "lenet", NETWORKS, "network to train them with")
_DATA = data_flags.define(FLAGS)
_TRAIN_PER_CLASS = FLAGS.strings(
    "train_per_class", ["100"], "training images of each class, such as 100,500,all"
)
_BATCH_SIZE = FLAGS.integer("batch_size", 100, "examples of a training step, over all devices")
_NUM_SEEDS = FLAGS.integer(
    "num_seeds", 5, "models of each method, with seeds from 0 on", largest=1000
)
_NUM_EPOCHS = FLAGS.integer("num_epochs", 200, "passes over the training set")
_SAVEDIR = FLAGS.string("savedir", "results/table", "folder of the table and its runs")


def main() -> None:
    """Runs the command."""
    models = method_names() if _MODELS.value is None else _MODELS.value
    if unknown := set(models) - set(method_names()):
        raise UserError(
            f"unknown method {min(unknown)!r} in --models: choose of {', '.join(method_names())}"
        )
    if not models:
        raise UserError(f"--models is empty: choose of {', '.join(method_names())}")
    for size in _TRAIN_PER_CLASS.value:
        if not command.is_train_per_class(size):
            raise UserError(
                f"--train_per_class={size}: each must be a whole number from 1 on, or 'all'"
            )
    if not _TRAIN_PER_CLASS.value:
        raise UserError("--train_per_class is empty: write sizes like 100,500,all")
    savedir = command.path("savedir", _SAVEDIR.value)
    command.set_up_jax()
    # Only now, so that --help and mistakes in flags are answered at once.
    from dropmax_jax import METHODS
    from experiments.table import table_rows

    # All data and folders first: a mistake in the last should not show after hours.
    planned = []
    for size in dict.fromkeys(_TRAIN_PER_CLASS.value):
        config, dataset = _load(size)
        folder = savedir / _NETWORK.value / size
        for model in METHODS:
            if model in models:
                own = dataclasses.replace(config, model=model)
                table_rows.check(own, dataset, folder)
                planned.append((own, dataset, folder))
    rows: list[table_rows.Row] = []
    failures: list[str] = []
    for config, dataset, folder in planned:
        try:
            row = table_rows.make_row(config, dataset, folder)
        # A row that fails does not take the others with it.
        except RunFailedError as error:
            failures.append(f"{config.model} ({folder.name} a class): {error}")
            print(f"failed: {failures[-1]}", file=sys.stderr, flush=True)
            continue
        rows.append(row)
        print(f"done: {table_rows.describe(row)}", flush=True)
        table_rows.write(rows, savedir)
    if failures:
        raise RunFailedError(f"{len(failures)} rows failed, the first: {failures[0]}")
    command.print_report(savedir / "table.md")


def _load(size: str) -> tuple[Config, "Dataset"]:
    """The data of that many images a class, and what is trained on them but for the method."""
    from experiments import data
    from experiments.table import table_rows

    config = Config(
        model=table_rows.BASELINE,
        network=_NETWORK.value,
        **_DATA.values(),
        train_per_class=command.per_class(size),
        batch_size=_BATCH_SIZE.value,
        num_epochs=_NUM_EPOCHS.value,
        seeds=tuple(range(_NUM_SEEDS.value)),
    )
    dataset = data.load_for(config)
    print(f"data: {dataset.note}", flush=True)
    return config.on(dataset.name, data.fingerprint(dataset)), dataset


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
