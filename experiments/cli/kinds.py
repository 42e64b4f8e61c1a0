"""Kinds of values: how a flag's text is read, and which values a configuration may hold."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_MAX_INTEGER = 2**31 - 1


class Kind(NamedTuple):
    """A kind of values.

    Attributes:
        parse: The value of a flag's text, or of its default; raises `ValueError` with what it must
            be.
        allows: Whether a value that comes from JSON is of this kind.
        syntax: What `--help` says of it.
        choices: The words of a choice.
    """

    parse: Callable[[Any], Any]
    allows: Callable[[Any], bool] = lambda value: isinstance(value, str)
    syntax: str = ""
    choices: Sequence[str] = ()


def integer(smallest: int = 1, largest: int = _MAX_INTEGER) -> Kind:
    """A whole number in a range."""
    limit = f" to {largest}" if largest < _MAX_INTEGER else " on"
    syntax = f"a whole number from {smallest}{limit}"

    def parse(text: str | int) -> int:
        try:
            value = int(text)
        except ValueError as error:  # of thousands of digits, too
            raise ValueError(f"must be {syntax}") from error
        if not allows(value):
            raise ValueError(f"must be {syntax}")
        return value

    def allows(value: Any) -> bool:
        return type(value) is int and smallest <= value <= largest

    return Kind(parse, allows, syntax)


def choice(choices: Sequence[str]) -> Kind:
    """One of several words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return Kind(parse, lambda value: value in choices, choices=choices)


def several(kind: Kind, or_none: bool = False) -> Kind:
    """Values of one kind, with commas between them: a list of each once.

    Args:
        kind: Theirs.
        or_none: Whether the word `none` stands for an empty list.
    """

    def parse_one(text: Any) -> Any:
        try:
            return kind.parse(text)
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}") from error

    def parse(text: str | Sequence[Any]) -> list[Any]:
        if or_none and text == "none":
            return []
        values = text.split(",") if isinstance(text, str) else text
        return list(dict.fromkeys(map(parse_one, values)))

    return kind._replace(parse=parse, syntax="with commas between several")


def _parse_positive_float(text: str | float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not _is_positive_float(value):
        raise ValueError("must be a finite number above 0, from 1e-37 to 1e38")
    return value


def _is_positive_float(value: Any) -> bool:
    return type(value) in {int, float} and 1e-37 <= value <= 1e38


def _parse_from_0(text: str | float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not _is_from_0(value):
        raise ValueError("must be a finite number from 0 on")
    return value


def _is_from_0(value: Any) -> bool:
    return type(value) in {int, float} and (value == 0 or _is_positive_float(value))


def _parse_fraction(text: str | float) -> float:
    value = _parse_from_0(text)
    if value >= 1:
        raise ValueError("must be a number from 0 on and below 1")
    return value


def _is_fraction(value: Any) -> bool:
    return _is_from_0(value) and value < 1


def _parse_train_per_class(text: str | int) -> int | None:
    if text == "all":
        return None
    try:
        return int(integer().parse(text))
    except ValueError as error:
        raise ValueError("must be a whole number from 1 on, or 'all'") from error


def _parse_path(text: str | Path) -> Path:
    if not str(text):
        raise ValueError("must be a path")
    if "://" in str(text):
        raise ValueError("must be a path, such as that of a mount, not an address")
    # A shell leaves the tilde of --savedir=~/run alone.
    return Path(os.path.expanduser(text))


def _parse_data_folder(text: str) -> str:
    # TensorFlow Datasets reads from buckets, too.
    return text if "://" in text else os.path.abspath(_parse_path(text))


def _is_data_folder(value: Any) -> bool:
    try:
        return isinstance(value, str) and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def _parse_numbers(text: str) -> dict[str, float]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    try:
        numbers = {name.strip(): float(value) for name, _, value in pairs}
    except ValueError:
        numbers = {}
    if not (numbers and _are_numbers(numbers)):
        raise ValueError("must be NAME=VALUE, with a number from 0 on, or several with commas")
    return numbers


def _are_numbers(values: Any) -> bool:
    # JSON's integers may be larger than any float.
    return isinstance(values, Mapping) and all(
        type(number) in {int, float} and 0 <= number <= sys.float_info.max
        for number in values.values()
    )


TEXT = Kind(str)
POSITIVE_FLOAT = Kind(_parse_positive_float, _is_positive_float, "a positive number")
FLOAT_FROM_0 = Kind(_parse_from_0, _is_from_0, "a number from 0 on")
FRACTION = Kind(_parse_fraction, _is_fraction, "a number from 0 on and below 1")
TRAIN_PER_CLASS = Kind(
    _parse_train_per_class, lambda value: value is None or integer().allows(value)
)
"""A whole number from 1 on, or `all`, which becomes None."""
SWITCH = Kind(bool, lambda value: type(value) is bool)
"""On or off: `--name` or `--noname`."""
PATH = Kind(_parse_path)
DATA_FOLDER = Kind(_parse_data_folder, _is_data_folder)
"""A folder, made absolute so that commands in other folders find it."""
NUMBERS = Kind(_parse_numbers, _are_numbers)
"""Numbers from 0 on by name, such as `temperature=0.2,retain_probability=0.4`."""
