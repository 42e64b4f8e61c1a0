"""Trains methods and writes the paper's table with error bars: `python -m experiments.table`."""

import dataclasses
import itertools
import sys

from experiments.cli import command, jobs_flag
from experiments.cli.config_flags import ConfigFlags, results_folder
from experiments.cli.errors import RunFailedError
from experiments.cli.kinds import PATH, TRAIN_PER_CLASS, choice, several
from experiments.train.config import METHOD_NAMES, Config

FLAGS = command.Flags()
_MODELS = FLAGS.define("models", METHOD_NAMES, "methods to compare", several(choice(METHOD_NAMES)))
_CONFIG = ConfigFlags(
    FLAGS, without=("model", "train_per_class", "hyperparameters", "record_test"), num_seeds=5
)
_TRAIN_PER_CLASS = FLAGS.define(
    "train_per_class",
    None,
    "training examples of each class, such as 100,500,all (default: the data set's, 100 for MNIST)",
    several(TRAIN_PER_CLASS),
)
_JOBS = jobs_flag.define(FLAGS)
_SAVEDIR = FLAGS.define(
    "savedir",
    None,
    "folder of the table and its runs (default: results/table, or results/DATASET/table if the "
    "images are not MNIST's)",
    PATH,
)


def main() -> None:
    """Runs the command."""
    savedir = _SAVEDIR.value or results_folder(_CONFIG.values()["dataset"], "table")
    command.set_up_jax()
    # Only now, so that --help and mistakes in flags are answered at once.
    from dropmax_jax import METHODS
    from experiments.data import datasets
    from experiments.table import table_rows
    from experiments.train import side_by_side

    # All data and folders first: a mistake in the last should not show after hours.
    planned = []
    for config in _configs():
        dataset = datasets.load_aloud(config)
        config = datasets.configured(config, dataset)
        size = config.train_per_class
        folder = savedir / config.network / ("all" if size is None else str(size))
        for model in METHODS:
            if model in _MODELS.value:
                own = dataclasses.replace(config, model=model)
                planned.append(table_rows.runs_of(own, dataset, folder))
    rows: list[table_rows.Row] = []
    failures: list[str] = []
    with side_by_side.training(list(itertools.chain(*planned)), _JOBS.value) as train:
        for runs in planned:
            try:
                row = table_rows.make_row(runs, train)
            # A row that fails does not take the others with it.
            except RunFailedError as error:
                config, _, folder = runs[0]
                failures.append(f"{config.model} ({folder.parent.name} a class): {error}")
                print(f"failed: {failures[-1]}", file=sys.stderr, flush=True)
                continue
            rows.append(row)
            print(f"done: {table_rows.describe(row)}", flush=True)
            table_rows.write(rows, savedir)
    if failures:
        raise RunFailedError(f"{len(failures)} rows failed, the first: {failures[0]}")
    command.print_report(savedir / "table.md")


def _configs() -> list[Config]:
    """The configuration for each size of the training set."""
    if _TRAIN_PER_CLASS.value is None:
        return [_CONFIG.config()]
    return [_CONFIG.config(train_per_class=size) for size in _TRAIN_PER_CLASS.value]


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
