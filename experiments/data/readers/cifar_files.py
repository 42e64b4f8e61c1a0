"""CIFAR-10 and CIFAR-100 as their author distributes them, in the binary version.

An archive holds files of records: the labels, a byte each, and 3 x 32 x 32 bytes of an image,
channel by channel. Its other versions are pickles and Matlab files, which are refused.

References:
    Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html
"""

import contextlib
import gzip
import io
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from experiments.cli.errors import UserError

SIDE = 32
_PIXEL_BYTES = 3 * SIDE * SIDE
# CIFAR-100's train.bin has 154 MB, and an archive 185 MB.
_LARGEST_FILE = 200_000_000
_LARGEST_ARCHIVE = 400_000_000
_GZIP_MAGIC = b"\x1f\x8b"


class Format(NamedTuple):
    """What an archive holds.

    Attributes:
        title: What the data set is called.
        folder: The name of the archive's folder.
        archive: Its own name, without `.tar.gz`.
        train_files: In the order of the images.
        test_files: The same of the test set.
        name_files: Files of class names, a line each, one for each label of a record.
        num_classes: Of each label of a record.
    """

    title: str
    folder: str
    archive: str
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    name_files: tuple[str, ...]
    num_classes: tuple[int, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read."""
        return self.train_files + self.test_files + self.name_files


CIFAR_10 = Format(
    "CIFAR-10",
    "cifar-10-batches-bin",
    "cifar-10-binary",
    tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    ("test_batch.bin",),
    ("batches.meta.txt",),
    (10,),
)
CIFAR_100 = Format(
    "CIFAR-100",
    "cifar-100-binary",
    "cifar-100-binary",
    ("train.bin",),
    ("test.bin",),
    ("coarse_label_names.txt", "fine_label_names.txt"),
    (20, 100),
)
_OTHER_VERSIONS = {
    "cifar-10-batches-py": "CIFAR-10's Python version",
    "cifar-100-python": "CIFAR-100's Python version",
    "cifar-10-batches-mat": "CIFAR-10's Matlab version",
    "cifar-100-matlab": "CIFAR-100's Matlab version",
}


class Records(NamedTuple):
    """A set as the files hold it.

    Attributes:
        labels: uint8 `[N, number of labels]`.
        images: uint8 `[N, 32, 32, 3]`.
    """

    labels: np.ndarray
    images: np.ndarray


class Content(NamedTuple):
    """What an archive holds.

    Attributes:
        train: The training set, in file order.
        test: The test set, in file order.
        names: For each label of a record, the names of its classes.
    """

    train: Records
    test: Records
    names: tuple[tuple[str, ...], ...]


def read(path: Path, wanted: Format) -> Content:
    """Reads the archive, plain or gzipped, or the folder that it unpacks to, or the one above.

    Raises:
        UserError: It cannot be read, is damaged, or is not what is wanted.
    """
    path = _place(path, wanted)
    files = _in_folder(path, wanted) if path.is_dir() else _in_archive(path, wanted)
    return Content(
        _records(path, files, wanted.train_files, wanted),
        _records(path, files, wanted.test_files, wanted),
        tuple(
            _names(path, files, name, count)
            for name, count in zip(wanted.name_files, wanted.num_classes, strict=True)
        ),
    )


def _place(path: Path, wanted: Format) -> Path:
    """The folder or archive to read: the one given, or the one in it."""
    with _one_line(path):
        if not path.is_dir():
            return path
        if any((path / name).exists() for name in wanted.files):
            return path
        names = (wanted.folder, f"{wanted.archive}.tar.gz", f"{wanted.archive}.tar")
        return next((path / name for name in names if (path / name).exists()), path)


def _in_folder(folder: Path, wanted: Format) -> dict[str, bytes]:
    files = {}
    with _one_line(folder):
        below = {path.name for path in folder.iterdir()}
        if missing := [name for name in wanted.files if name not in below]:
            # The folder's own name tells the version, too.
            deeper = {f"{path.parent.name}/{path.name}" for path in folder.glob("*/*")}
            raise UserError(_what_is_wrong(folder, missing, below | deeper | {folder.name}, wanted))
        for name in wanted.files:
            path = folder / name
            if not path.is_file():
                raise UserError(f"{path} is not a file")
            _check_size(path, path.stat().st_size)
            files[name] = path.read_bytes()
    return files


def _in_archive(path: Path, wanted: Format) -> dict[str, bytes]:
    """Reads the files by name, in one pass; nothing is unpacked to disk."""
    files: dict[str, bytes] = {}
    seen = set()
    # Opening a pipe would wait for ever.
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is neither a file nor a folder")
    with _one_line(path), path.open("rb") as raw:
        is_gzip = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        raw.seek(0)
        file = _Bounded(cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if is_gzip else raw)
        with tarfile.open(fileobj=cast(BinaryIO, file), mode="r:") as archive:
            for member in archive:
                if member.size < 0:
                    raise tarfile.ReadError("a size is negative")
                # Some archivers write `./` before every name.
                name = posixpath.normpath(member.name)
                seen.add(name)
                folder, base = posixpath.split(name)
                if base not in wanted.files or folder not in {"", wanted.folder}:
                    continue
                if not member.isreg() or member.issparse():
                    raise UserError(f"{path}: {name} is not a file")
                if base in files:
                    raise UserError(f"{path} holds {base} twice")
                _check_size(f"{path}: {name}", member.size)
                content = archive.extractfile(member)
                assert content is not None
                files[base] = content.read()
        file.finish()
    if missing := [name for name in wanted.files if name not in files]:
        raise UserError(_what_is_wrong(path, missing, seen, wanted))
    return files


class _Bounded(io.RawIOBase):
    """A file of which only as much is read as an official archive holds.

    A small archive can unpack to more than memory holds, and a header can promise a name of any
    length.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_ARCHIVE - self._file.tell():
            raise tarfile.ReadError("it is larger than the official archive")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if offset > _LARGEST_ARCHIVE:
            raise tarfile.ReadError("it is larger than the official archive")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def finish(self) -> None:
        """Reads to the end, where gzip verifies its checksum."""
        while self.read(1 << 20):
            pass


def _check_size(what: object, size: int) -> None:
    if size > _LARGEST_FILE:
        raise UserError(f"{what} has {size:,} bytes: more than {_LARGEST_FILE:,} are not possible")


def _what_is_wrong(path: Path, missing: list[str], seen: set[str], wanted: Format) -> str:
    """Says which files are missing, or what is there instead, from the names that were seen."""
    bases = {posixpath.basename(name) for name in seen}
    folders = {posixpath.dirname(name) for name in seen} | seen
    for folder, version in _OTHER_VERSIONS.items():
        if folder in folders:
            return f"{path} holds {version}: take the binary version, {wanted.archive}.tar.gz"
    if "data_batch_1" in bases or {"train", "test", "meta"} <= bases:
        return f"{path} holds the Python version: take the binary version, {wanted.archive}.tar.gz"
    (other,) = {CIFAR_10, CIFAR_100} - {wanted}
    if len(missing) == len(wanted.files) and bases & set(other.files):
        return f"{path} holds {other.title}, not {wanted.title}"
    return f"{path} lacks {', '.join(missing)} of {wanted.title}'s binary version"


def _records(
    path: Path, files: Mapping[str, bytes], names: tuple[str, ...], wanted: Format
) -> Records:
    num_labels = len(wanted.num_classes)
    num_bytes = num_labels + _PIXEL_BYTES
    parts = []
    for name in names:
        data = np.frombuffer(files[name], np.uint8)
        if data.size == 0 or data.size % num_bytes:
            raise UserError(
                f"{path}: {name} has {data.size} bytes, which are not whole records of {num_bytes}"
            )
        part = data.reshape(-1, num_bytes)
        largest = part[:, :num_labels].max(axis=0)
        for label, count in zip(largest, wanted.num_classes, strict=True):
            if label >= count:
                raise UserError(
                    f"{path}: {name} holds the label {label}: labels must be 0 to {count - 1}"
                )
        parts.append(part)
    records = np.concatenate(parts)
    pixels = records[:, num_labels:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return Records(records[:, :num_labels].copy(), np.ascontiguousarray(pixels))


def _names(path: Path, files: Mapping[str, bytes], name: str, count: int) -> tuple[str, ...]:
    try:
        text = files[name].decode("ascii")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {name} is not a list of class names") from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(set(names)) != count or len(names) != count:
        raise UserError(f"{path}: {name} has {len(names)} class names, not {count} different ones")
    return names


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path} is a damaged gzip file: {error}") from error
    # Damaged headers of an archive raise the last two.
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise UserError(f"{path} cannot be read as a tar archive: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
