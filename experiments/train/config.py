"""What a run is: everything that decides its numbers."""

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.cli.errors import UserError
from experiments.runtime import jax_settings
from experiments.runtime.files import read_json

NETWORKS: tuple[str, ...] = ("lenet", "cnn")
PRECISIONS = ("float32", "bfloat16")
DATASETS = ("auto", "mnist", "mnist_5k")


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
        network: a name of `experiments.networks.NETWORKS`.
        dataset: what the data are called; `auto` until they are loaded.
        mnist_path: the folder of the IDX files they come from, if they do.
        data_dir: the folder of TensorFlow Datasets, if it is not the default.
        train_per_class: training images of each class, None for all.
        batch_size: examples of one optimiser step, over all devices.
        num_epochs: passes over the training set.
        learning_rate: of the first third of the steps; a tenth and a hundredth of it follow.
        seeds: one model is trained for each.
        precision: of the network's computation, `float32` or `bfloat16`; parameters, heads and loss
            are float32.
        settings: hyper-parameters of the method's loss that are not at their default.
        data_fingerprint: a hash of the training, validation and test sets.
        jax_settings: JAX's settings that decide on numbers, by their names in
            `jax_settings.DECIDING`; None until the data are loaded.
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
    precision: str = "float32"
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    data_fingerprint: str = ""
    jax_settings: Mapping[str, Any] | None = None

    def on(self, dataset: str, fingerprint: str) -> "Config":
        """This configuration for the data that were loaded, with JAX's settings of now if none."""
        return dataclasses.replace(
            self,
            dataset=dataset,
            data_fingerprint=fingerprint,
            jax_settings=jax_settings.deciding()
            if self.jax_settings is None
            else self.jax_settings,
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = dataclasses.asdict(self)
        return {**values, "seeds": list(self.seeds), "settings": dict(self.settings)}

    def deciding(self) -> dict[str, Any]:
        """What decides on numbers, as JSON values: the data by their fingerprint alone.

        JAX's settings have the names of their environment variables.
        """
        values = self.to_json()
        for name in ("dataset", "mnist_path", "data_dir", "jax_settings"):
            del values[name]
        settings = self.jax_settings or jax_settings.DECIDING
        return values | {jax_settings.variable(name): settings[name] for name in settings}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Config":
        """The inverse of `to_json`.

        Raises:
            UserError: they are not the values of a configuration.
        """
        try:
            config = cls(**{**values, "seeds": tuple(values["seeds"])})
        except KeyError as error:
            raise UserError(f"it lacks {error}") from error
        except TypeError as error:
            raise UserError(str(error)) from error
        for name, is_possible in _POSSIBLE.items():
            if not is_possible(getattr(config, name)):
                raise UserError(f"{name} cannot be {getattr(config, name)!r}")
        return config


def read_config(file: Path) -> Config:
    """Reads what `to_json` gave; raises `UserError` if the file is not that."""
    values = read_json(file)
    try:
        return Config.from_json(values)
    except UserError as error:
        raise UserError(f"{file} is not the configuration of a run: {error}") from error


def _is_path(value: Any) -> bool:
    try:
        return value is None or (isinstance(value, str) and b"\0" not in os.fsencode(value))
    except UnicodeEncodeError:
        return False


def _is_positive_integer(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_positive_number(value: Any) -> bool:
    # JSON's integers may be larger than any float.
    return type(value) in {int, float} and 0 < value <= sys.float_info.max


_POSSIBLE: dict[str, Callable[[Any], bool]] = {
    "model": lambda value: value in method_names(),
    "network": lambda value: value in NETWORKS,
    "dataset": lambda value: isinstance(value, str),
    "mnist_path": _is_path,
    "data_dir": _is_path,
    "train_per_class": lambda value: value is None or _is_positive_integer(value),
    "batch_size": _is_positive_integer,
    "num_epochs": _is_positive_integer,
    "learning_rate": _is_positive_number,
    "seeds": lambda seeds: (
        len(seeds) > 0 and all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds)
    ),
    "precision": lambda value: value in PRECISIONS,
    "settings": lambda settings: (
        isinstance(settings, Mapping) and all(map(_is_positive_number, settings.values()))
    ),
    "data_fingerprint": lambda value: isinstance(value, str),
    "jax_settings": lambda value: (
        value is None
        or (isinstance(value, Mapping) and value.keys() == jax_settings.DECIDING.keys())
    ),
}


def differences(one: Config, other: Config) -> list[str]:
    """Names and values of what decides on numbers and is not the same in both."""
    here, there = one.deciding(), other.deciding()
    return [
        "data are not the same"
        if name == "data_fingerprint"
        else f"{name} is {here[name]}, not {there[name]}"
        for name in here
        if here[name] != there[name]
    ]
