"""The pictures of a folder, as text that stands in the page itself."""

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from experiments.cli.errors import UserError, printable
from experiments.report.left_out import LeftOut, checked, reason_of

KINDS = {".png": "image/png", ".svg": "image/svg+xml"}
LARGEST = 4 * 2**20
"""Bytes of a picture, more of which no page needs."""
LARGEST_SUM = 64 * 2**20
"""Bytes of all pictures; a browser takes seconds to open what is larger."""


class Figure(NamedTuple):
    """A picture.

    Attributes:
        title: Its file's name in words.
        uri: All of it, as the address of an image.
    """

    title: str
    uri: str


class Room:
    """How many bytes of pictures the page still takes."""

    def __init__(self) -> None:
        self.left = LARGEST_SUM


def embedded(
    paths: Iterable[Path], results: Path, room: Room, left_out: list[LeftOut]
) -> list[Figure]:
    """The pictures that can be shown; notes the others in `left_out`."""
    figures = []
    for path in _each_once(paths):
        try:
            figures.append(_embedded(path, results, room))
        except UserError as error:
            left_out.append(LeftOut(path, str(error)))
    return figures


def _each_once(paths: Iterable[Path]) -> Iterator[Path]:
    """Leaves out the PNG file of a picture that is there as SVG, too, unless that is very large."""
    kept: dict[Path, Path] = {}
    for path in paths:
        other = kept.setdefault(path.with_suffix(""), path)
        if other is not path:
            kept[path.with_suffix("")] = min(path, other, key=_size)
    return iter(kept.values())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return LARGEST


def _embedded(path: Path, results: Path, room: Room) -> Figure:
    size = _size(checked(path, results))
    if size > LARGEST:
        raise UserError(f"it has {size / 2**20:.1f} MiB, and the report takes pictures of {_LIMIT}")
    if size > room.left:
        raise UserError(
            f"it would be too much: the report takes {LARGEST_SUM >> 20} MiB of pictures"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"it cannot be read: {reason_of(error)}") from error
    kind = path.suffix.lower()
    is_whole = (
        content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
        if kind == ".png"
        else b"<svg" in content and b"</svg>" in content[-100:]
    )
    if not is_whole:
        raise UserError(f"it is damaged: this is not a whole {kind[1:].upper()} file")
    room.left -= size
    text = base64.b64encode(content).decode()
    return Figure(title_of(path), f"data:{KINDS[kind]};base64,{text}")


_LIMIT = f"{LARGEST >> 20} MiB at most"


def title_of(path: Path) -> str:
    """A file's name in words.

    >>> title_of(Path("run/learning_curves.png"))
    'learning curves'
    """
    return printable(path.stem).replace("_", " ")
