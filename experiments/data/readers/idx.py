"""Images in the format of MNIST: four IDX files, plain or gzipped, in a folder or a zip archive."""

import gzip
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from experiments.cli.errors import UserError
from experiments.data.split import Split

MAX_IMAGES = 1_000_000
# The training images and their labels, then those of the test set.
KINDS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
_UNSIGNED_BYTE = 8
_GZIP_MAGIC = b"\x1f\x8b"
# A file or folder on disk, or in a zip archive.
AnyPath = Path | zipfile.Path


def read_folder(
    folder: str | os.PathLike[str] | zipfile.Path,
    kinds: Sequence[str] = KINDS,
    labels: range = range(10),
) -> tuple[Split, Split]:
    """Reads the four IDX files in a folder, in file order.

    A file may be plain or gzipped and be spelled `train-images-idx3-ubyte` or
    `train-images.idx3-ubyte`, with or without `.gz`, and be in a folder of such a name. A plain
    file is preferred.

    Args:
        folder: Path of the folder; see also `find_folder`.
        kinds: What the files' names start with, in the order of `KINDS`.
        labels: Which labels there are.

    Returns:
        The training set and the test set.

    Raises:
        UserError: The folder or a file is missing, cannot be read, or is not what it should be.

    References:
        The file format: http://yann.lecun.com/exdb/mnist/
    """
    place = folder if isinstance(folder, zipfile.Path) else Path(folder)
    paths = {kind: _find_file(place, kind) for kind in kinds}
    found = {kind: path for kind, path in paths.items() if path is not None}
    if missing := [kind for kind in kinds if kind not in found]:
        names = ", ".join(f"{accepted_names(kind)[0]}[.gz]" for kind in missing)
        alternative = accepted_names(missing[0])[1]
        raise UserError(f"{folder} lacks {names} (names such as {alternative}[.gz] are accepted)")
    train_images, train_labels, test_images, test_labels = (found[kind] for kind in kinds)
    return (
        read_split(train_images, train_labels, labels),
        read_split(test_images, test_labels, labels),
    )


def find_folder(
    folder: Path, kinds: Sequence[str] = KINDS, known: Sequence[str] = ("raw", "MNIST/raw")
) -> Path:
    """The folder of the four files: the one given, or one of those below it that are `known`.

    Raises:
        UserError: It cannot be read, or the files are in another folder below it.
    """
    try:
        below = sorted(path for path in folder.iterdir() if path.is_dir())
        for place in (folder, *(folder / name for name in known)):
            if is_complete(place, kinds):
                return place
        for place in (*below, *(path / "raw" for path in below)):
            if is_complete(place, kinds):
                raise UserError(f"{folder} lacks the four IDX files: pass {place}")
    except OSError as error:
        raise UserError(f"{folder}: {_reason(error)}") from error
    return folder


def is_complete(folder: AnyPath, kinds: Sequence[str] = KINDS) -> bool:
    """Whether a folder has the four files."""
    return all(_find_file(folder, kind) is not None for kind in kinds)


def _find_file(folder: AnyPath, kind: str) -> AnyPath | None:
    """The file of that kind, else a folder of its name, else None."""
    named = [folder / name for name in accepted_names(kind)]
    # Kaggle's archive has folders of these names, with the files in them or beside them.
    files = named + [path / inner.name for path in named for inner in named]
    return next((path for path in files if path.is_file()), None) or next(
        (path for path in named if path.exists()), None
    )


def read_split(
    images_path: AnyPath, labels_path: AnyPath, allowed_labels: range = range(10)
) -> Split:
    """Reads a file of images and the file of their labels, which must be among those allowed.

    Raises:
        UserError: A file cannot be read or is damaged, or the two do not belong together.
    """
    labels = read_labels(labels_path, allowed_labels)
    images = read_images(images_path)
    if len(images) != len(labels):
        raise UserError(
            f"{images_path} holds {len(images)} images but {labels_path} {len(labels)} labels: "
            "they do not belong together"
        )
    return Split(images, labels)


def read_images(path: AnyPath) -> np.ndarray:
    """Reads uint8 images `[N, 28, 28]`; raises UserError where the file is not that."""
    return _read(path, (28, 28))


def read_labels(path: AnyPath, allowed: range = range(10)) -> np.ndarray:
    """Reads int32 labels `[N]`; raises UserError where the file is not that."""
    labels = _read(path, ())
    for label in (labels.max(), labels.min()):
        if label not in allowed:
            raise UserError(
                f"{path} holds the label {label}: labels must be {allowed[0]} to {allowed[-1]}"
            )
    return labels.astype(np.int32)


def accepted_names(kind: str) -> list[str]:
    """File names accepted for `train-images`, `t10k-labels` and so on, preferred first.

    Example:
        >>> accepted_names("t10k-labels")[:2]
        ['t10k-labels-idx1-ubyte', 't10k-labels.idx1-ubyte']
    """
    num_dims = 3 if kind.endswith("images") else 1
    plain = [f"{kind}-idx{num_dims}-ubyte", f"{kind}.idx{num_dims}-ubyte"]
    return plain + [f"{name}.gz" for name in plain]


def _read(path: AnyPath, item_shape: tuple[int, ...]) -> np.ndarray:
    try:
        # Opening a pipe would wait for ever.
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a file")
        with path.open("rb") as file:
            return _parse(cast(BinaryIO, file), path, item_shape)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path} is a damaged gzip file: {error}") from error
    # A zip archive that is encrypted or compressed in a rare way raises the last two.
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: {_reason(error)}") from error


def _parse(file: BinaryIO, path: AnyPath, item_shape: tuple[int, ...]) -> np.ndarray:
    # By content and not by name, since browsers unpack files and keep the name.
    is_gzip = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    file.seek(0)
    if is_gzip:
        return _unpacked(cast(BinaryIO, gzip.GzipFile(fileobj=file)), path, item_shape)
    if isinstance(path, zipfile.Path):
        return _unpacked(file, path, item_shape)
    return _mapped(file, path, item_shape)


def _mapped(file: BinaryIO, path: Path, item_shape: tuple[int, ...]) -> np.ndarray:
    """A plain file's content, memory-mapped: the system reads the parts that are used."""
    shape = _parse_header(file, path, item_shape)
    start = file.tell()
    _check_length(os.fstat(file.fileno()).st_size - start, int(np.prod(shape)), path)
    return np.memmap(file, np.uint8, "r", start, shape)


def _unpacked(file: BinaryIO, path: AnyPath, item_shape: tuple[int, ...]) -> np.ndarray:
    shape = _parse_header(file, path, item_shape)
    num_bytes = int(np.prod(shape))
    # The header bounds what is read: a small gzip file can unpack to more than memory holds.
    # One byte more shows a file that is too long, and makes gzip verify its checksum.
    data = _read_at_most(file, num_bytes + 1)
    _check_length(len(data), num_bytes, path)
    return np.frombuffer(data, np.uint8).reshape(shape)


def _check_length(found: int, promised: int, path: AnyPath) -> None:
    if found < promised:
        raise UserError(
            f"{path} is truncated: its header promises {promised} bytes of data, it has {found}"
        )
    if found > promised:
        raise UserError(f"{path} goes on after the {promised} bytes that its header promises")


def _read_at_most(file: BinaryIO, num_bytes: int) -> bytearray:
    # Piecewise, since read(n) claims n bytes of memory at once, whatever the file holds.
    data = bytearray()
    while chunk := file.read(min(1 << 20, num_bytes - len(data))):
        data += chunk
    return data


def _parse_header(file: BinaryIO, path: AnyPath, item_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Reads the magic number (0, 0, dtype, number of dimensions) and the sizes, big-endian."""
    wanted = "images" if item_shape else "labels"
    num_dims = 1 + len(item_shape)
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise UserError(f"{path} is not an IDX file: it starts with {magic!r}")
    if magic[2] != _UNSIGNED_BYTE:
        raise UserError(f"{path} has IDX dtype {magic[2]:#04x}, not 0x08 (unsigned bytes)")
    if magic[3] != num_dims:
        swapped = {1: "labels", 3: "images"}.get(magic[3])
        holds = f"{swapped} (are the files swapped?)" if swapped else f"{magic[3]} dimensions"
        raise UserError(f"{path} should hold {wanted} but holds {holds}")
    sizes = file.read(4 * num_dims)
    if len(sizes) < 4 * num_dims:
        raise UserError(f"{path} is truncated within its header")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    if shape[1:] != item_shape:
        size = "x".join(map(str, shape[1:]))
        raise UserError(f"{path} holds images of {size} pixels, not 28x28")
    if not 1 <= shape[0] <= MAX_IMAGES:
        raise UserError(f"{path} claims {shape[0]} {wanted}: 1 to {MAX_IMAGES:,} are possible")
    return shape


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
