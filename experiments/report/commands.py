"""The command that trains a run again, made from its configuration."""

import dataclasses
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from experiments import images, mnist
from experiments.calibration import __main__ as calibration
from experiments.cli.command import Flags
from experiments.cli.config_flags import ConfigFlags
from experiments.cli.errors import UserError, printable
from experiments.data.catalogue import ROWS, row_of
from experiments.runtime import jax_settings
from experiments.train.config import Config

DefineFlags = Callable[[Flags], ConfigFlags]

FOLLOWS = {
    name: getattr(Config(), name)
    for name in ("data_fingerprint", "image_shape", "class_names", "jax_settings")
}
"""What follows from the data once they are loaded, and from the environment; before that."""


def rerun(config: Config, folder: Path, is_finished: bool) -> str:
    """A line for a shell that trains a finished run again beside it, or goes on with another.

    Raises:
        UserError: No command trains such a run.
    """
    whole = folder.resolve()
    variant = whole.parent.name
    if variant in calibration.VARIANTS[1:]:
        # Only this command changes images. It trains all its methods.
        above = _named(folder.parents[1] if len(folder.parts) > 2 else whole.parents[1])
        own = [f"--variants={variant}", f"--savedir={above}{'_again' * is_finished}"]
        return _line("calibration", arguments(config, calibration.config_flags), own, config)
    folder = _named(folder)
    own = [f"--savedir={folder}_again"] if is_finished else [f"--savedir={folder}", "--resume"]
    if row_of(config.dataset).source == "mnist":
        given = arguments(config, mnist.config_flags)
        if given is not None:
            return _line("mnist", given, own, config)
    return _line("images", arguments(config, images.config_flags), own, config)


def _named(folder: Path) -> Path:
    """A path that ends in the folder's name, unlike `.` and `..`."""
    return folder.resolve() if folder.name in {"", ".."} else folder


def arguments(config: Config, define: DefineFlags) -> list[str] | None:
    """The flags that a command needs for a configuration; None if it has not got them.

    Example:
        >>> arguments(Config("softmax", dataset="mnist", seeds=(3, 4)), mnist.config_flags)
        ['--model=softmax', '--dataset=mnist', '--seed=3', '--num_seeds=2']
    """
    asked = as_asked(config)
    given = [f"--dataset={asked.dataset}"]
    defaults = _values(given, define)
    if defaults is None:
        return None
    if "mnist_path" not in defaults:
        # Such commands have one flag for the files of all data sets.
        path = asked.data_path or asked.mnist_path
        asked = dataclasses.replace(asked, mnist_path=None, data_path=path)
    if "model" in defaults:
        given.insert(0, f"--model={asked.model}")
    else:
        asked = dataclasses.replace(asked, model=Config().model)
    for name, default in defaults.items():
        value = getattr(asked, name)
        if value != default and name != "model":
            given += _flags(name, value)
    values = _values(given, define)
    return given if values is not None and Config(**values) == asked else None


def as_asked(config: Config) -> Config:
    """A configuration before the data are loaded."""
    name = config.dataset.partition(":")[0]
    return dataclasses.replace(config, dataset=name if name in ROWS else "auto", **FOLLOWS)


def _flags(name: str, value: Any) -> list[str]:
    """The flags of one field of `Config`."""
    if name == "seeds":
        return [f"--seed={value[0]}"] * bool(value[0]) + [f"--num_seeds={len(value)}"]
    if name == "hyperparameters":
        return [f"--{name}={','.join(f'{each}={number}' for each, number in value.items())}"]
    if name == "train_per_class" and value is None:
        value = "all"
    return [f"--{name}={value}"]


def _values(given: list[str], define: DefineFlags) -> dict[str, Any] | None:
    """The fields that a command's flags set; None if it refuses them."""
    own = Flags()
    config = define(own)
    try:
        own.values(["command", *given])
        return config.values()
    except (flags.Error, UserError, ValueError):
        return None


def _line(name: str, given: list[str] | None, own: list[str], config: Config) -> str:
    if given is None:
        raise UserError(f"no flags of experiments.{name} say this configuration")
    words = [*_variables(config.jax_settings or {}), "python", "-m", f"experiments.{name}"]
    line = " ".join([*words, *map(shlex.quote, given + own)])
    if printable(line) != line:
        raise UserError("a path in the command has characters that no page can show")
    return line


def _variables(settings: Mapping[str, Any]) -> list[str]:
    """The environment of a run that JAX's defaults do not make."""
    return [
        f"{jax_settings.variable(name)}={shlex.quote(str(value))}"
        for name, value in settings.items()
        if value != jax_settings.DEFAULTS[name]
    ]
