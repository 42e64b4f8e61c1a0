"""What the report does not show, and why; and which files it may look into."""

import os
from pathlib import Path
from typing import NamedTuple

from experiments.cli.errors import UserError


class LeftOut(NamedTuple):
    """Something that the report does not show.

    Attributes:
        path: Of the file or folder.
        reason: Why, in a clause.
    """

    path: Path
    reason: str


def checked(path: Path, results: Path) -> Path:
    """The file itself, if it is an ordinary one within the results.

    Args:
        path: Of a file.
        results: Without links in it.

    Raises:
        UserError: It is not; with the reason alone.
    """
    try:
        if not path.resolve(strict=True).is_relative_to(results):
            raise UserError("it is a link that leads out of the folder of results")
        # To open a pipe would wait for a writer.
        if not path.is_file():
            raise UserError("it is not a file")
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        raise UserError(f"it cannot be read: {reason_of(error)}") from error
    return path


def reason_of(error: Exception) -> str:
    """What an error says, without the path that it is about."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error)
