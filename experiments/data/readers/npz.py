"""Images and labels in an NPZ file, as `numpy.savez` and `numpy.savez_compressed` write it."""

import lzma
import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from experiments.cli.errors import UserError, printable
from experiments.data.split import Split

_PREFIXES = {"train": "", "test": "test_", "validation": "validation_"}


class Content(NamedTuple):
    """What a file holds.

    Attributes:
        splits: The images and labels by set: `train`, `test` and `validation`, of which the last
            two may be missing.
        class_names: Of the classes, in the order of the labels.
    """

    splits: dict[str, Split]
    class_names: tuple[str, ...]


def read(file: Path) -> Content:
    """Reads `images`, `labels`, and if they are there `class_names` and `test_images` and so on.

    Raises:
        UserError: The file is damaged, or its arrays are not what they must be.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return _content(file, archive)
    except zipfile.BadZipFile as error:
        raise UserError(f"{printable(file)} is not a whole NPZ file: {error}") from error
    except (zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{printable(file)} is a damaged NPZ file: {error}") from error
    except OSError as error:
        raise UserError(f"{printable(file)}: {error.strerror or error}") from error


def _content(file: Path, archive: zipfile.ZipFile) -> Content:
    members = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
    if missing := {"images", "labels"} - members:
        raise UserError(
            f"{printable(file)} lacks {' and '.join(sorted(missing))}: it holds "
            f"{printable(', '.join(sorted(members))) or 'no array'}"
        )
    splits = {}
    for name, prefix in _PREFIXES.items():
        names = f"{prefix}images", f"{prefix}labels"
        if members.isdisjoint(names):
            continue
        if lacking := set(names) - members:
            raise UserError(f"{printable(file)} lacks {lacking.pop()}")
        images, labels = (_array(file, archive, member) for member in names)
        splits[name] = _checked(file, prefix, images, labels)
    given = _class_names(file, archive) if "class_names" in members else None
    labels = splits["train"].labels
    count = int(labels.max()) + 1 if given is None else len(given)
    if count < 2:
        raise UserError(f"{printable(file)} holds {count} class: at least 2 are needed")
    for name, split in splits.items():
        if split.images.shape[1:] != splits["train"].images.shape[1:]:
            raise UserError(f"{printable(file)}: {name}_images must be of the size of images")
        if split.labels.max() >= count:
            raise UserError(
                f"{printable(file)}: {_PREFIXES[name]}labels go up to "
                f"{split.labels.max()}, but there are {count} classes"
            )
    # Not by counting up to the largest label, which may be 2,000,000,000.
    present = np.unique(labels)
    if len(present) < count:
        places = np.arange(len(present))
        absent = int(places[present != places][0]) if (present != places).any() else len(present)
        raise UserError(
            f"{printable(file)}: no image has the label {absent}, but labels must be 0 to "
            f"{count - 1}"
        )
    return Content(splits, given or tuple(map(str, range(count))))


def _checked(file: Path, prefix: str, images: np.ndarray, labels: np.ndarray) -> Split:
    shape = images.shape
    is_grey_or_colour = images.ndim == 3 or (images.ndim == 4 and shape[-1] == 3)
    if images.dtype != np.uint8 or not is_grey_or_colour or not images.size:
        raise UserError(
            f"{printable(file)}: {prefix}images must be uint8 [N, H, W] or [N, H, W, 3], but is "
            f"{images.dtype} {list(shape)}"
        )
    if labels.dtype.kind not in "iu" or labels.shape != shape[:1]:
        raise UserError(
            f"{printable(file)}: {prefix}labels must be integers [{shape[0]}], one for each image, "
            f"but is {labels.dtype} {list(labels.shape)}"
        )
    if labels.min() < 0 or labels.max() >= 2**31 - 1:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise UserError(f"{printable(file)}: {prefix}labels must count from 0 on, but has {wrong}")
    return Split(images, labels.astype(np.int32))


def _class_names(file: Path, archive: zipfile.ZipFile) -> tuple[str, ...]:
    array = _array(file, archive, "class_names")
    if array.ndim != 1 or array.dtype.kind != "U" or len(set(array.tolist())) < len(array):
        raise UserError(f"{printable(file)}: class_names must be different texts [K]")
    return tuple(map(printable, array.tolist()))


def _array(file: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Reads an array; memory is claimed for what the file holds, not for what it promises."""
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as opened:
        try:
            shape, is_fortran, dtype = _header(opened)
        # NumPy evaluates the header.
        except (ValueError, SyntaxError, TypeError, OverflowError) as error:
            reason = printable(error)[:200]
            raise UserError(f"{printable(file)}: {name} is no array: {reason}") from error
        if dtype.hasobject:
            raise UserError(f"{printable(file)}: {name} holds Python objects, which are not read")
        promised = math.prod(shape) * dtype.itemsize
        if min(shape, default=1) <= 0 or not promised:
            raise UserError(f"{printable(file)}: {name} is empty: {list(shape)}")
        content = bytearray()
        while chunk := opened.read(min(1 << 20, promised + 1 - len(content))):
            content += chunk
    if len(content) != promised:
        found = "more" if len(content) > promised else f"{len(content):,}"
        raise UserError(
            f"{printable(file)}: {name} is damaged: its header promises {promised:,} bytes, it has "
            f"{found}"
        )
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def _header(opened: IO[bytes]) -> tuple[tuple[int, ...], bool, "np.dtype[Any]"]:
    version = np.lib.format.read_magic(opened)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(opened)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(opened)
    raise ValueError(f"NPY version {version} is not supported")
