"""Finds the images of a folder that has a subfolder for each class."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from experiments.cli.errors import UserError, printable

_SETS = {"train": "train", "test": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "validation"
)
_READ = {".png", ".jpg", ".jpeg", ".jpe", ".jfif"}
# To leave these out would train on a part of the images.
_OTHER_FORMATS = {
    *(".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2", ".jxl"),
    *(".pbm", ".pgm", ".ppm", ".tga", ".dcm"),
}
_STARTS = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# Of archives made on a Mac, and of network drives, which keep small copies of images there.
_SYSTEM_FOLDERS = {"__MACOSX", "@eaDir"}

_Identity = tuple[int, int]


class ClassFolder(NamedTuple):
    """The folder of a class.

    Attributes:
        path: Of the folder.
        images: The paths of all images below it.
        left_out: How many files, and folders with all they hold, are no images.
    """

    path: Path
    images: list[Path]
    left_out: int


class Found(NamedTuple):
    """What a folder holds.

    Attributes:
        sets: The classes' folders by their names, of the sets `train`, `test` and `validation`. If
            there are none for sets, all are in `train`.
        left_out: How many files, and folders with all they hold, are no images of a class.
    """

    sets: Mapping[str, Mapping[str, ClassFolder]]
    left_out: int


def find(folder: Path) -> Found:
    """Finds the images: `folder/CLASS/...`, or `folder/train/CLASS/...` and other sets beside it.

    Raises:
        UserError: The folder cannot be read, or holds no such images, or some in another format.
    """
    try:
        return _find(folder)
    except OSError as error:
        where = folder if error.filename is None else os.fsdecode(error.filename)
        raise UserError(f"--data_path: {printable(where)}: {error.strerror or error}") from error


def _find(folder: Path) -> Found:
    below, left_out = _folders(folder)
    above = {_identity(folder)}
    sets: dict[str, dict[str, ClassFolder]] = {}
    for name, path in _sets(folder, below).items():
        inside, others = (below, 0) if path == folder else _folders(path)
        above.add(_identity(path))
        classes = [one for one in inside if _identity(one) not in above]
        left_out += others + len(inside) - len(classes)
        if len(classes) < 2:
            raise UserError(
                f"{printable(path)} holds {len(classes)} folder{'s' * (len(classes) != 1)}: it "
                "must hold one for each class, at least 2"
            )
        sets[name] = {}
        for one in classes:
            found = _class_folder(one, above)
            if not found.images:
                raise UserError(f"{printable(one)} is the folder of a class, but holds no images")
            sets[name][one.name] = found
            left_out += found.left_out
    _check_same_classes(folder, sets)
    return Found(sets, left_out)


def _sets(folder: Path, below: list[Path]) -> dict[str, Path]:
    """The folders of the sets by their names; or the folder itself, if it has classes below it."""
    named = [path for path in below if path.name.lower() in _SETS]
    sets = {_SETS[path.name.lower()]: path for path in named}
    is_complete = {"train", "test"} <= sets.keys()
    if not named or (not is_complete and len(named) < len(below)):
        return {"train": folder}
    names = printable(", ".join(path.name for path in below))
    if not is_complete:
        raise UserError(
            f"{printable(folder)} holds {names}: name the sets 'train' and 'test', and a third "
            "'validation', or have the classes' folders here"
        )
    if len(below) > len(sets):
        raise UserError(
            f"{printable(folder)} holds {names}: beside 'train' and 'test' there can only be "
            "'validation'"
        )
    return sets


def _check_same_classes(folder: Path, sets: Mapping[str, Mapping[str, ClassFolder]]) -> None:
    first, *others = sets
    for other in others:
        if different := sorted(sets[first].keys() ^ sets[other].keys()):
            has, lacks = (first, other) if different[0] in sets[first] else (other, first)
            raise UserError(
                f"the sets in {printable(folder)} must have the same classes: {has} has "
                f"{printable(different[0])!r}, {lacks} has not"
            )


def _folders(folder: Path) -> tuple[list[Path], int]:
    """The folders to look into, by name, and how many others and files there are."""
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    folders = [
        Path(entry.path) for entry in entries if not _is_skipped(entry) and _is_folder(entry)
    ]
    return folders, len(entries) - len(folders)


def _class_folder(folder: Path, above: set[_Identity]) -> ClassFolder:
    """All images in a folder and in those below it, of which it reads each once.

    Links are followed. Those to what lies above, which would never end, are left out.
    """
    images: list[Path] = []
    left_out = 0
    seen, waiting = set(above), [folder]
    while waiting:
        here = waiting.pop()
        identity = _identity(here)
        if identity in seen:
            left_out += 1
            continue
        seen.add(identity)
        entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        kept = [entry for entry in entries if not _is_skipped(entry)]
        folders = [Path(entry.path) for entry in kept if _is_folder(entry)]
        own = [Path(entry.path) for entry in kept if not _is_folder(entry) and _is_image(entry)]
        waiting += reversed(folders)
        images += own
        left_out += len(entries) - len(folders) - len(own)
    return ClassFolder(folder, images, left_out)


def _is_image(entry: "os.DirEntry[str]") -> bool:
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in _OTHER_FORMATS:
        raise UserError(f"{printable(entry.path)}: only PNG and JPEG images can be read")
    if os.path.exists(entry.path) or not entry.is_symlink():
        # Opening a pipe would wait for ever.
        return os.path.isfile(entry.path) and (suffix in _READ or _starts_as_image(entry.path))
    # A link to nowhere, which may stand for an image that is missing.
    return suffix in _READ


def _starts_as_image(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(8).startswith(_STARTS)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    # A link to itself is none; `is_dir` would raise.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _is_skipped(entry: "os.DirEntry[str]") -> bool:
    return entry.name.startswith(".") or entry.name in _SYSTEM_FOLDERS


def _identity(folder: Path) -> _Identity:
    """The same for all paths to a folder."""
    status = folder.stat()
    return status.st_dev, status.st_ino
