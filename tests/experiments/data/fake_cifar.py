"""Small archives of CIFAR for tests, in the official format."""

import io
import tarfile
from pathlib import Path

import numpy as np

from experiments.data import cifar
from experiments.data.catalogue import ROWS
from experiments.data.readers.cifar_files import CIFAR_10, CIFAR_100, Format, Records
from experiments.data.sources import Request, SourceData
from experiments.data.split import Split

FORMATS = {"cifar10": CIFAR_10, "cifar100": CIFAR_100}
NAMES = list(FORMATS)


def made_records(wanted: Format, per_class: int, seed: int) -> Records:
    """Images with a patch whose colour and place tell the class, on noise."""
    num_classes = wanted.num_classes[-1]
    labels = np.tile(np.arange(num_classes, dtype=np.uint8), per_class)
    pixels = np.random.default_rng(seed).integers(0, 40, (len(labels), 32, 32, 3), np.uint8)
    for place, label in enumerate(labels):
        pixels[place, 3 * (label % 10) : 3 * (label % 10) + 4, :16, label % 3] = 200 + label % 50
    columns = [labels // 5, labels] if len(wanted.num_classes) == 2 else [labels]
    return Records(np.stack(columns, axis=1).astype(np.uint8), pixels)


def record_bytes(records: Records) -> bytes:
    """Each record: the labels, then the image channel by channel."""
    return b"".join(
        labels.tobytes() + image.transpose(2, 0, 1).tobytes()
        for labels, image in zip(*records, strict=True)
    )


def class_names(name: str) -> tuple[str, ...]:
    return ROWS[name].class_names or tuple(f"fine_{number}" for number in range(100))


def contents(name: str, train: Records, test: Records) -> dict[str, bytes]:
    """The official files, by their names."""
    wanted = FORMATS[name]
    files = {}
    parts = len(wanted.train_files)
    for file, rows in zip(
        wanted.train_files, np.array_split(np.arange(len(train.labels)), parts), strict=True
    ):
        files[file] = record_bytes(Records(train.labels[rows], train.images[rows]))
    files[wanted.test_files[0]] = record_bytes(test)
    coarse = [f"coarse_{number}" for number in range(20)]
    for file, names in zip(wanted.name_files[::-1], (class_names(name), coarse), strict=False):
        # The official file ends in an empty line.
        files[file] = "\n".join([*names, "", ""]).encode()
    return files


def small(name: str) -> dict[str, bytes]:
    return contents(name, made_records(FORMATS[name], 2, 0), made_records(FORMATS[name], 1, 1))


def packed(path: Path, files: dict[str, bytes], inside: str) -> Path:
    """An archive of these files in a folder, gzipped if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(inside + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def official(folder: Path, name: str, files: dict[str, bytes] | None = None) -> Path:
    wanted = FORMATS[name]
    return packed(folder / f"{wanted.archive}.tar.gz", files or small(name), f"{wanted.folder}/")


def unpacked(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def load(name: str, path: Path) -> SourceData:
    return cifar.load(Request(name, path))


def assert_holds(split: Split, records: Records) -> None:
    np.testing.assert_array_equal(split.images, records.images)
    np.testing.assert_array_equal(split.labels, records.labels[:, -1])
    assert split.images.dtype == np.uint8
    assert split.labels.dtype == np.int32
