import gzip
import os
import struct
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.cli.errors import UserError
from experiments.data.readers import idx
from tests.experiments.fake_mnist import idx_bytes, write_idx, write_mnist

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 28, 28)).astype(np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9, 2], np.int32)
FILES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


def refused(function: Callable[..., object], *args: object) -> str:
    with pytest.raises(UserError) as caught:
        function(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


def read_bytes(data: bytes | bytearray, read: Callable[[Path], np.ndarray]) -> np.ndarray | str:
    """The array read from a file of these bytes, or the message that refuses it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(data)
        try:
            return read(path)
        except UserError as error:
            message = str(error)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("gz", [False, True])
def test_reads_what_was_written(tmp_path: Path, gz: bool) -> None:
    written = write_mnist(tmp_path, train_per_class=3, test_per_class=2, gz=gz)
    for split, expected in zip(idx.read_folder(tmp_path), written, strict=True):
        np.testing.assert_array_equal(split.images, expected.images)
        np.testing.assert_array_equal(split.labels, expected.labels)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32


def test_other_spelling_and_unpacked_gz(tmp_path: Path) -> None:
    train, _ = write_mnist(tmp_path, train_per_class=3, test_per_class=2)
    for path in sorted(tmp_path.iterdir()):
        dotted = path.name.replace("-idx", ".idx")
        # Some browsers unpack a file and keep its name.
        path.with_name(dotted).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    np.testing.assert_array_equal(idx.read_folder(tmp_path)[0].images, train.images)


def test_plain_file_wins_over_gz(tmp_path: Path) -> None:
    train, _ = write_mnist(tmp_path, train_per_class=3, test_per_class=2)
    write_idx(tmp_path / FILES[0], 255 - train.images)
    np.testing.assert_array_equal(idx.read_folder(tmp_path)[0].images, 255 - train.images)


def test_missing_folder_and_files(tmp_path: Path) -> None:
    assert "nowhere" in refused(idx.find_folder, tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert "Not a directory" in refused(idx.find_folder, tmp_path / "file")
    folder = tmp_path / "mnist"
    write_mnist(folder, train_per_class=3, test_per_class=2)
    (folder / f"{FILES[0]}.gz").unlink()
    (folder / f"{FILES[3]}.gz").unlink()
    message = refused(idx.read_folder, folder)
    assert f"{FILES[0]}[.gz]" in message
    assert f"{FILES[3]}[.gz]" in message
    assert FILES[1] not in message
    assert "train-images.idx3-ubyte" in message


@pytest.mark.parametrize("name", FILES)
def test_folder_or_pipe_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    write_mnist(tmp_path, train_per_class=3, test_per_class=2)
    (tmp_path / f"{name}.gz").unlink()
    (tmp_path / name).mkdir()
    assert f"{name} is not a file" in refused(idx.read_folder, tmp_path)
    (tmp_path / name).rmdir()
    os.mkfifo(tmp_path / name)
    assert f"{name} is not a file" in refused(idx.read_folder, tmp_path)


@pytest.mark.parametrize("inside", [True, False])
def test_kaggles_folders_in_the_place_of_files(tmp_path: Path, inside: bool) -> None:
    """The files are in the folders, or beside them under the other spelling, or both."""
    train, _ = write_mnist(tmp_path, train_per_class=3, test_per_class=2, gz=False)
    for name in FILES:
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        (tmp_path / name).mkdir()
        place = tmp_path / name / name if inside else tmp_path / name.replace("-idx", ".idx")
        place.write_bytes(content)
    assert idx.find_folder(tmp_path) == tmp_path
    np.testing.assert_array_equal(idx.read_folder(tmp_path)[0].images, train.images)


@pytest.mark.parametrize("below", ["", "raw", "MNIST/raw"])
def test_torchvisions_folders_are_known(tmp_path: Path, below: str) -> None:
    write_mnist(tmp_path / below, train_per_class=3, test_per_class=2)
    assert idx.find_folder(tmp_path) == tmp_path / below


@pytest.mark.parametrize("below", ["FashionMNIST/raw", "digits"])
def test_another_folder_below_is_suggested(tmp_path: Path, below: str) -> None:
    write_mnist(tmp_path / below, train_per_class=3, test_per_class=2)
    message = refused(idx.find_folder, tmp_path)
    assert message.endswith(f"lacks the four IDX files: pass {tmp_path / below}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path: Path) -> None:
    write_mnist(tmp_path, train_per_class=3, test_per_class=2)
    path = tmp_path / f"{FILES[2]}.gz"
    path.chmod(0)
    assert f"{path}: Permission denied" in refused(idx.read_folder, tmp_path)


def test_swapped_files(tmp_path: Path) -> None:
    images = write_idx(tmp_path / "a", IMAGES)
    labels = write_idx(tmp_path / "b", LABELS)
    assert "swapped" in refused(idx.read_split, labels, images)
    assert "should hold images but holds labels" in refused(idx.read_images, labels)
    assert "should hold labels but holds images" in refused(idx.read_labels, images)


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    images = write_idx(tmp_path / "a", IMAGES)
    labels = write_idx(tmp_path / "b", LABELS[:-1])
    assert "7 images" in refused(idx.read_split, images, labels)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not an IDX file"),
        (b"\0\0", "not an IDX file"),
        (b"<html>no such page</html>", "not an IDX file"),
        (b"\0\0\x0d\x03", "dtype 0x0d"),
        (b"\0\0\x08\x02", "holds 2 dimensions"),
        (b"\0\0\x08\x03\0\0\0\x01\0\0", "within its header"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 1, 32, 32) + bytes(1024), "32x32"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 0, 28, 28), "claims 0 images"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 28, 28), "claims 4294967295 images"),
        (idx_bytes(IMAGES)[:-1], "truncated"),
        (idx_bytes(IMAGES) + b"\0", "goes on"),
        (gzip.compress(idx_bytes(IMAGES), mtime=0)[:-9], "damaged gzip"),
        (gzip.compress(idx_bytes(IMAGES), mtime=0)[:-8] + bytes(8), "damaged gzip"),
        (gzip.compress(idx_bytes(IMAGES)[:-1], mtime=0), "truncated"),
        (gzip.compress(idx_bytes(IMAGES) + b"\0", mtime=0), "goes on"),
        (gzip.compress(idx_bytes(IMAGES), mtime=0) + b"junk", "damaged gzip"),
    ],
)
def test_damaged_images(data: bytes, said: str) -> None:
    assert said in str(read_bytes(data, idx.read_images))


@given(st.integers(10, 255))
def test_labels_beyond_nine(label: int) -> None:
    data = idx_bytes(np.array([0, label, 9]))
    assert f"holds the label {label}" in str(read_bytes(data, idx.read_labels))


@given(st.integers(0, len(idx_bytes(IMAGES)) - 1), st.booleans())
def test_every_truncation_is_refused(length: int, gz: bool) -> None:
    data = gzip.compress(idx_bytes(IMAGES)) if gz else idx_bytes(IMAGES)
    assert isinstance(read_bytes(data[: length % len(data)], idx.read_images), str)


@given(st.integers(0, 15), st.integers(0, 255))
def test_every_changed_header_is_refused(place: int, value: int) -> None:
    data = bytearray(idx_bytes(IMAGES))
    changed = data[place] != value
    data[place] = value
    assert isinstance(read_bytes(data, idx.read_images), str) == changed


@given(st.integers(0), st.integers(0, 255))
def test_changed_gzip_never_gives_other_images(place: int, value: int) -> None:
    data = bytearray(gzip.compress(idx_bytes(IMAGES), mtime=0))
    data[place % len(data)] = value
    result = read_bytes(data, idx.read_images)
    assert isinstance(result, str) or np.array_equal(result, IMAGES)


@given(st.binary(max_size=64), st.booleans(), st.booleans())
def test_any_bytes_give_a_user_error(tail: bytes, with_magic: bool, gz: bool) -> None:
    data = (b"\0\0\x08\x01" if with_magic else b"") + tail
    for read in (idx.read_images, idx.read_labels):
        result = read_bytes(gzip.compress(data) if gz else data, read)
        if not isinstance(result, str):
            assert read == idx.read_labels
            assert data == idx_bytes(result)


@pytest.mark.parametrize("num_images", [3, idx.MAX_IMAGES])
def test_memory_is_bounded_by_header_and_by_content(tmp_path: Path, num_images: int) -> None:
    header = struct.pack(">4B3I", 0, 0, 8, 3, num_images, 28, 28)
    is_bomb = num_images == 3
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(header + bytes(50_000_000 if is_bomb else 5), 1))
    tracemalloc.start()
    try:
        assert ("goes on" if is_bomb else "truncated") in refused(idx.read_images, path)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
