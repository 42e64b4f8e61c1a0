"""Checks of flags that several commands share."""

import re
from collections.abc import Sequence
from pathlib import Path

from experiments.cli.command import path
from experiments.cli.errors import UserError
from experiments.runtime.files import write_text


def chosen(name: str, given: Sequence[str], known: Sequence[str]) -> list[str]:
    """The values of a flag, each once.

    Raises:
        UserError: one is not known, or there is none.

    >>> chosen("models", ["softmax", "softmax"], ["softmax", "dropmax"])
    ['softmax']
    """
    choices = f"choose of {', '.join(known)}"
    for value in given:
        if value not in known:
            raise UserError(f"unknown {value!r} in --{name}: {choices}")
    if not given:
        raise UserError(f"--{name} is empty: {choices}")
    return list(dict.fromkeys(given))


def counts(name: str, given: Sequence[str]) -> list[int]:
    """The whole numbers above 0 of a flag, each once.

    Raises:
        UserError: one is no such number, or there is none.

    >>> counts("seeds", ["1", "64"])
    [1, 64]
    """
    for value in given:
        # int() refuses thousands of digits.
        if not _is_count(value):
            raise UserError(f"{value!r} in --{name} is not a whole number from 1 on")
    if not given:
        raise UserError(f"--{name} is empty: write numbers like 1,5")
    return list(dict.fromkeys(map(int, given)))


def sizes(name: str, given: Sequence[str]) -> list[tuple[int, int]]:
    """The pairs of a flag of values such as 128x10.

    Raises:
        UserError: one is not such a pair of whole numbers above 0, or there is none.

    >>> sizes("sizes", ["128x10"])
    [(128, 10)]
    """
    found = []
    for value in given:
        parts = value.split("x")
        if len(parts) != 2 or not all(map(_is_count, parts)):
            raise UserError(f"{value!r} in --{name} is not a size: write it like 128x10")
        found.append((int(parts[0]), int(parts[1])))
    if not found:
        raise UserError(f"--{name} is empty: write sizes like 128x10,1024x1024")
    return list(dict.fromkeys(found))


def divisors(name: str, given: Sequence[str], of: int) -> list[int]:
    """The whole numbers of a flag, all of which must divide another.

    Raises:
        UserError: one is no such number, or there is none.

    >>> divisors("batches", ["100", "500"], of=10_000)
    [100, 500]
    """
    found = counts(name, given)
    for value in found:
        if of % value:
            raise UserError(f"{value} in --{name} does not divide {of}")
    return found


def result_folder(savedir: str) -> Path:
    """Makes the folder of the results, before an hour is spent on them.

    Raises:
        UserError: it cannot be written to.
    """
    folder = path("savedir", savedir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; pass --savedir") from error
    return folder


def _is_count(text: str) -> bool:
    return re.fullmatch("[1-9][0-9]{0,8}", text) is not None
