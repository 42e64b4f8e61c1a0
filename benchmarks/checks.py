"""Flags that several commands share, and checks of them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import recipe
from experiments.cli.command import Flags
from experiments.cli.errors import UserError
from experiments.cli.kinds import PATH, Kind, choice, several
from experiments.runtime.files import write_text


class BatchAndClasses(NamedTuple):
    """The shape of logits."""

    batch: int
    classes: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.classes}"


class LinearSize(NamedTuple):
    """The examples, classes and features of linear heads."""

    examples: int
    classes: int
    features: int

    def __str__(self) -> str:
        return f"{self.examples}x{self.classes}x{self.features}"


def _parse_numbers(text: str, example: str) -> list[int]:
    """Positive numbers with x between them, as many as the example has."""
    number = "[1-9][0-9]{0,8}"
    if re.fullmatch("x".join([number] * len(example.split("x"))), text) is None:
        raise ValueError(f"must be a size, like {example}")
    return [int(part) for part in text.split("x")]


def _parse_linear_size(text: str) -> LinearSize:
    return LinearSize(*_parse_numbers(text, "2048x32768x256"))


def _parse_size(text: str) -> BatchAndClasses:
    return BatchAndClasses(*_parse_numbers(text, "128x10"))


SIZE = Kind(_parse_size)
"""A `BatchAndClasses`, written like 128x10."""


def models(own: Flags, default: Sequence[str] = recipe.MODELS) -> Any:
    """Defines `--models`."""
    return own.define("models", list(default), "methods to train", several(choice(recipe.MODELS)))


def networks(own: Flags, text: str) -> Any:
    """Defines `--networks`."""
    names = tuple(recipe.NETWORKS)
    return own.define("networks", list(names), text, several(choice(names)))


def sizes(own: Flags, text: str, or_none: bool = False) -> Any:
    """Defines `--sizes`, of the loss alone."""
    default = ["128x10", "1024x1024", "4096x8192", "8192x32768"]
    return own.define("sizes", default, text, several(SIZE, or_none))


def linear_sizes(own: Flags, default: Sequence[str]) -> Any:
    """Defines `--linear_sizes`, of the losses of linear heads."""
    text = "examples, classes and features of linear heads, as NxKxD; none for no such loss"
    return own.define("linear_sizes", list(default), text, several(Kind(_parse_linear_size), True))


def blocks(own: Flags) -> Any:
    """Defines `--blocks`, of the losses of linear heads."""
    text = "blocks of examples and classes to measure for linear heads, as 512x512; none"
    return own.define("blocks", [], text, several(SIZE, True))


def savedir(own: Flags) -> Any:
    """Defines `--savedir`."""
    return own.define("savedir", "results/benchmarks", "folder of the results", PATH)


def divisors(name: str, given: list[int], of: int) -> list[int]:
    """Returns a flag's whole numbers, if all of them divide another number.

    Raises:
        UserError: One does not divide it.

    >>> divisors("batches", [100, 500], of=10_000)
    [100, 500]
    """
    for value in given:
        if of % value:
            raise UserError(f"{value} in --{name} does not divide {of}")
    return given


def result_folder(folder: Path) -> Path:
    """Makes the folder of the results before we spend an hour on them.

    Raises:
        UserError: The folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; pass --savedir") from error
    return folder
