"""The pictures of a folder, as text that stands in the page itself."""

import base64
from collections.abc import Iterable, Iterator, Mapping
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
        caption: What `captions.md` beside it says of it; empty if there is none.
        uri: All of it, as the address of an image.
    """

    title: str
    caption: str
    uri: str


def embedded(
    pictures: Mapping[Path, Iterable[Path]], results: Path, left_out: list[LeftOut]
) -> dict[Path, list[Figure]]:
    """The pictures that can be shown, by whose they are; notes the others in `left_out`."""
    room = LARGEST_SUM
    captions: dict[Path, dict[str, str]] = {}
    figures: dict[Path, list[Figure]] = {}
    for owner, paths in pictures.items():
        for path in _each_once(paths):
            if path.parent not in captions:
                captions[path.parent] = _captions(path.parent / "captions.md", results)
            try:
                content = _content(path, results, room)
            except UserError as error:
                left_out.append(LeftOut(path, str(error)))
                continue
            room -= len(content)
            title = printable(path.stem).replace("_", " ")
            uri = f"data:{KINDS[path.suffix.lower()]};base64,{base64.b64encode(content).decode()}"
            figure = Figure(title, captions[path.parent].get(path.stem, ""), uri)
            figures.setdefault(owner, []).append(figure)
    return figures


def _each_once(paths: Iterable[Path]) -> Iterator[Path]:
    """The paths, but the smaller file alone of a picture that is there as PNG and SVG."""
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


def _content(path: Path, results: Path, room: int) -> bytes:
    """A picture's file, if it is whole and the page has room for it."""
    size = _size(checked(path, results))
    if size > LARGEST:
        raise UserError(
            f"it has {size / 2**20:.1f} MiB, and the report takes pictures of at most "
            f"{LARGEST >> 20} MiB"
        )
    if size > room:
        raise UserError(f"the report takes {LARGEST_SUM >> 20} MiB of pictures, and it has them")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"it cannot be read: {reason_of(error)}") from error
    if path.suffix.lower() == ".png":
        is_whole = content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
    else:
        is_whole = b"<svg" in content and b"</svg>" in content[-100:]
    if not is_whole:
        raise UserError("it is damaged: a part of it is not there")
    return content


def _captions(file: Path, results: Path) -> dict[str, str]:
    """The paragraphs below the headings of a Markdown file, by heading, but for its pictures."""
    try:
        text = checked(file, results).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, UserError):
        return {}
    found = {}
    for section in f"\n{text}".split("\n## ")[1:]:
        name, *paragraphs = section.strip().split("\n\n")
        shown = [part for part in paragraphs if not part.startswith(("![", "Left out:"))]
        found[name.strip()] = " ".join(shown)
    return found
