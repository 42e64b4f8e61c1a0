"""What a run is: everything that decides its numbers."""

import dataclasses
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.errors import UserError

NETWORKS = ("lenet", "cnn")


def method_names() -> tuple[str, ...]:
    """The names of `dropmax_jax.METHODS`, from the names of their files.

    Importing the table would import jax, which takes longer than `--help` should.
    """
    spec = importlib.util.find_spec("dropmax_jax")
    if spec is None or spec.origin is None:
        raise UserError("dropmax_jax is not installed: run from the repository's root folder")
    files = (Path(spec.origin).parent / "methods").glob("[a-z]*.py")
    return tuple(sorted(file.stem for file in files if file.stem != "method"))


@dataclasses.dataclass(frozen=True)
class Config:
    """A run's settings; two runs of one `Config` on the same data give the same numbers.

    Attributes:
        model: a name of `dropmax_jax.METHODS`.
        network: a name of `dropmax_jax.networks.NETWORKS`.
        dataset: what the data are called, `mnist` or `mnist_5k`; `auto` until they are loaded.
        mnist_path: the folder of the IDX files they come from, if they do.
        data_dir: the folder of TensorFlow Datasets, if it is not the default.
        train_per_class: training images of each class, None for all.
        batch_size: examples of one optimiser step, over all devices.
        num_epochs: passes over the training set.
        learning_rate: of the first third of the steps; a tenth and a hundredth of it follow.
        seeds: one model is trained for each.
        settings: hyper-parameters of the method's loss that are not at their default.
        data_fingerprint: a hash of the training, validation and test sets.
    """

    model: str
    network: str = "lenet"
    dataset: str = "auto"
    mnist_path: str | None = None
    data_dir: str | None = None
    train_per_class: int | None = 100
    batch_size: int = 100
    num_epochs: int = 200
    learning_rate: float = 1e-3
    seeds: tuple[int, ...] = (0,)
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    data_fingerprint: str = ""

    def on(self, dataset: str, fingerprint: str) -> "Config":
        """This configuration for the data that were loaded."""
        return dataclasses.replace(self, dataset=dataset, data_fingerprint=fingerprint)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = dataclasses.asdict(self)
        return {**values, "seeds": list(self.seeds), "settings": dict(self.settings)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Config":
        """The inverse of `to_json`."""
        return cls(**{**values, "seeds": tuple(values["seeds"])})


def differences(one: Config, other: Config) -> list[str]:
    """Names and values of what decides on numbers and is not the same in both."""
    here, there = one.to_json(), other.to_json()
    # Where the data come from does not matter if they are the same.
    names = [name for name in here if name not in {"mnist_path", "data_dir"}]
    return [
        f"{name} is {here[name]}, not {there[name]}" for name in names if here[name] != there[name]
    ]
