"""The flags that set the fields of a `Config`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.cli.command import Flags
from experiments.cli.kinds import choice
from experiments.data.catalogue import ROWS, row_of
from experiments.train.config import SETTINGS, Config

# What says which data to use: for MNIST alone, and for all data sets.
MNIST_DATA = ("dataset", "mnist_path", "data_dir")
DATA = (*MNIST_DATA, "data_path", "num_classes", "image_size")
MNIST_DATASETS = tuple(name for name, row in ROWS.items() if row.source == "mnist")
# What the commands about MNIST have no flags for.
NOT_FOR_MNIST = (
    *("data_path", "num_classes", "image_size"),
    *("optimizer", "schedule", "weight_decay", "augmentation", "accumulate"),
    "dropout_rate",
)


def results_folder(dataset: str, name: str) -> Path:
    """Where a command keeps its results: `results/NAME` for MNIST, `results/DATASET/NAME` else."""
    if dataset in MNIST_DATASETS:
        return Path("results", name)
    return Path("results", dataset, name)


def _is_same(dataset: str | None, kept: str) -> bool:
    """Whether `--dataset` leaves a run's data set as it is; `mnist` alone may change its source."""
    name = kept.partition(":")[0]
    return dataset is None or (dataset == name and name not in MNIST_DATASETS)


class ConfigFlags:
    """The flags of one command that set fields of a `Config`.

    Args:
        own: The command's flags.
        fields: Which fields they set, by default all that have flags.
        without: Fields of these that the command sets itself.
        datasets: The values of `--dataset`.
        defaults: Default values by flag, where they are not those of `Config`.
    """

    def __init__(
        self,
        own: Flags,
        fields: Sequence[str] = tuple(SETTINGS),
        without: Sequence[str] = (),
        datasets: Sequence[str] = tuple(ROWS),
        **defaults: Any,
    ) -> None:
        self._own = own
        kinds = {"dataset": choice(datasets)}
        self._flags = {
            name: [
                own.define(
                    *flag._replace(
                        default=defaults.get(flag.name, flag.default),
                        kind=kinds.get(flag.name, flag.kind),
                    )
                )
                for flag in SETTINGS[name].flags
            ]
            for name in fields
            if name not in without and SETTINGS[name].flags
        }

    def values(self) -> dict[str, Any]:
        """The fields' values, by their names; the data set's recipe, where no flag is given."""
        values = {
            # What a holder gives may not be None, as `all` is.
            name: SETTINGS[name].combine(*(self._own.values[each.name].value for each in holders))
            for name, holders in self._flags.items()
        }
        recipe = row_of(values.get("dataset") or "auto").recipe
        return values | {name: recipe[name] for name in recipe if name not in self._given()}

    def config(self, kept: Config | None = None, **own: Any) -> Config:
        """The configuration that the flags say.

        Args:
            kept: A configuration that keeps its values where no flag is given.
            own: Fields that the command sets itself.
        """
        if kept is None:
            return Config(**(self.values() | own))
        given, values = self._given(), self.values()
        changes: dict[str, Any] = {}
        # Where TensorFlow Datasets is kept names no data.
        if given & (set(DATA) - {"data_dir"}):
            changes["mnist_path"] = None
            if _is_same(values["dataset"], kept.dataset):
                given.discard("dataset")
            else:
                # They name the data together.
                given |= self._flags.keys() & set(DATA)
        changes |= {name: value for name, value in values.items() if name in given}
        return dataclasses.replace(kept, data_fingerprint="", **changes, **own)

    def _given(self) -> set[str]:
        """The fields that a flag of the command line sets."""
        return {
            name
            for name, holders in self._flags.items()
            if any(self._own.values[holder.name].present for holder in holders)
        }
