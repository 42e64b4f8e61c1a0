"""Checks of flags that several commands share."""

from collections.abc import Sequence
from pathlib import Path

from experiments.errors import UserError
from experiments.files import write_text


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


def result_folder(savedir: str) -> Path:
    """Makes the folder of the results, before an hour is spent on them.

    Raises:
        UserError: it cannot be written to.
    """
    folder = Path(savedir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; pass --savedir") from error
    return folder
