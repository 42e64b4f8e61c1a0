import io
import json
import os
import socket
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.data import datasets
from experiments.data.readers import idx, tfds_idx, tfds_images
from experiments.data.split import Split
from tests.experiments.data.tfds_host import QuietHandler, forbid_preparing, hosting, refused
from tests.experiments.fake_mnist import write_mnist
from tests.experiments.runner import files_under

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")

FILES = [
    f"{prefix}-{kind}-ubyte.gz"
    for prefix in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_mnist(folder, train_per_class=104, test_per_class=3)
    return folder


@pytest.fixture
def host(files: Path) -> Iterator[str]:
    with hosting(tfds.image_classification.MNIST, files, FILES) as url:
        yield url


def seed_downloads(data_dir: Path, files: Path) -> list[Path]:
    """Puts the files where tfds looks for what it has downloaded."""
    from tensorflow_datasets.core.download import resource

    folder = data_dir / "downloads" / "mnist"
    folder.mkdir(parents=True)
    paths = []
    for url, info in tfds.image_classification.MNIST.url_infos.items():
        path = folder / resource.get_dl_fname(url, info.checksum)
        path.write_bytes((files / info.filename).read_bytes())
        resource.write_info_file(
            url=url,
            path=tfds.core.Path(path),
            dataset_name="mnist",
            original_fname=info.filename,
            url_info=info,
        )
        paths.append(path)
    return paths


def load(data_dir: Path) -> tuple[Split, Split]:
    return tfds_images.load(tfds_idx.MNIST, data_dir, timeout=5)[:2]


def version_folder(data_dir: Path) -> Path:
    return data_dir / "mnist" / str(tfds.image_classification.MNIST.VERSION)


def as_multiset(split: Split) -> list[bytes]:
    return sorted(bytes([label]) + image.tobytes() for image, label in zip(*split, strict=True))


def assert_same_order(a: tuple[Split, Split], b: tuple[Split, Split]) -> None:
    for split, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(split.images, other.images)
        np.testing.assert_array_equal(split.labels, other.labels)


def test_downloads_prepares_and_reads(
    host: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(tmp_path)
    for split, expected in zip(loaded, idx.read_folder(files), strict=True):
        assert as_multiset(split) == as_multiset(expected)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32
    assert not any("incomplete" in path.name for path in tmp_path.rglob("*"))

    forbid_preparing(monkeypatch)
    assert_same_order(load(tmp_path), loaded)
    dataset = datasets.load("auto", data_dir=tmp_path, train_per_class=4)
    assert dataset.name == "mnist"
    assert "shuffled" in dataset.note
    assert len(dataset.train.labels) == 40


def test_plain_tfds_reads_what_is_prepared(host: str, tmp_path: Path) -> None:
    train, test = load(tmp_path)
    builder = tfds.builder("mnist", data_dir=tmp_path)
    assert builder.info.splits["train"].num_examples == len(train.labels)
    for name, split in (("train", train), ("test", test)):
        source = builder.as_data_source(name)
        np.testing.assert_array_equal([example["label"] for example in source], split.labels)
        np.testing.assert_array_equal(
            np.stack([example["image"][:, :, 0] for example in source]), split.images
        )
    info = json.loads((version_folder(tmp_path) / "dataset_info.json").read_text())
    assert info["moduleName"] == "tensorflow_datasets.image_classification.mnist"


def test_tensorflow_is_not_imported(host: str, tmp_path: Path) -> None:
    load(tmp_path)
    code = (
        "import sys; from experiments.data import datasets; import importlib.abc\n"
        "assert 'tensorflow_datasets' not in sys.modules\n"
        f"datasets.load('auto', data_dir={str(tmp_path)!r}, train_per_class=4)\n"
        "assert 'tensorflow_datasets' in sys.modules and 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""


def test_earlier_downloads_need_no_network(
    host: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tfds_images, "is_reachable", lambda url, timeout: False)
    with pytest.raises(tfds_images.UnavailableError):
        load(tmp_path)
    seed_downloads(tmp_path, files)
    assert len(load(tmp_path)[0].labels) == 1040


def test_wrong_checksum_of_a_download(
    host: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorflow_datasets.core.download import checksums

    url_infos = dict(tfds.image_classification.MNIST.url_infos)
    info = url_infos[host + FILES[0]]
    url_infos[host + FILES[0]] = checksums.UrlInfo(info.size, "0" * 64, FILES[0])
    monkeypatch.setattr(tfds.image_classification.MNIST, "url_infos", url_infos)
    assert "wrong checksum" in refused(lambda: load(tmp_path))
    assert not version_folder(tmp_path).exists()


def test_wrong_checksum_of_an_earlier_download(host: str, files: Path, tmp_path: Path) -> None:
    path = seed_downloads(tmp_path, files)[2]
    content = bytearray(path.read_bytes())
    # This changes the time stamp, which gzip does not notice.
    content[4] ^= 1
    path.write_bytes(content)
    message = refused(lambda: load(tmp_path))
    assert f"{path} has a wrong checksum" in message
    assert not version_folder(tmp_path).exists()


def test_interrupted_download_is_not_taken_for_whole(
    host: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection closes in the middle of a file; the file is whole the next time."""

    def send_half(handler: QuietHandler, source: Any, outputfile: Any) -> None:
        content = source.read()
        outputfile.write(content[: len(content) // 2])
        handler.close_connection = True

    with monkeypatch.context() as patch:
        patch.setattr(QuietHandler, "copyfile", send_half)
        refused(lambda: load(tmp_path))
        assert not version_folder(tmp_path).exists()
    assert len(load(tmp_path)[0].labels) == 1040


def test_reading_what_is_prepared_writes_nothing(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path)
    before = files_under(tmp_path)
    forbid_preparing(monkeypatch)
    load(tmp_path)
    assert files_under(tmp_path) == before


@pytest.mark.usefixtures("no_home")
def test_without_a_home_nothing_is_written_into_the_working_directory(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorflow_datasets.core import constants

    # tfds takes this on import if it finds no home.
    monkeypatch.setattr(constants, "DATA_DIR", "~/tensorflow_datasets")
    monkeypatch.chdir(tmp_path)
    before = files_under(tmp_path)
    with pytest.raises(tfds_images.UnavailableError, match="there is no home folder"):
        tfds_images.load(tfds_idx.MNIST, None, timeout=5)
    assert files_under(tmp_path) == before


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_interrupted_preparation_is_not_taken_for_whole(
    host: str,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruption: type[BaseException],
) -> None:
    encode = tfds_images.png
    encoded = 0

    def interrupted(image: np.ndarray) -> io.BytesIO:
        nonlocal encoded
        encoded += 1
        # This image is in the second of the two splits.
        if encoded == 1050:
            raise interruption
        return encode(image)

    monkeypatch.setattr(tfds_images, "png", interrupted)
    with pytest.raises((UserError, KeyboardInterrupt)):
        load(tmp_path)
    assert not version_folder(tmp_path).exists()
    assert [len(split.labels) for split in load(tmp_path)] == [1040, 30]


def test_killed_preparation_is_not_taken_for_whole(host: str, tmp_path: Path) -> None:
    left_behind = tmp_path / "mnist" / f"incomplete.ABCDEF_{version_folder(tmp_path).name}"
    left_behind.mkdir(parents=True)
    (left_behind / "mnist-train.array_record-00000-of-00001").write_bytes(b"half")
    assert len(load(tmp_path)[0].labels) == 1040


def test_unwritable_data_dir(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root, who runs many containers, may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"{tmp_path} is not writable" in refused(lambda: load(tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


def test_half_prepared_folder(host: str, tmp_path: Path) -> None:
    version_folder(tmp_path).mkdir(parents=True)
    message = refused(lambda: load(tmp_path))
    assert f"{version_folder(tmp_path)} cannot be used" in message
    assert "delete it" in message


@pytest.mark.parametrize("pattern", ["dataset_info.json", "features.json", "mnist-test*"])
@pytest.mark.parametrize("damage", ["removed", "truncated", "emptied"])
def test_damaged_prepared_folder(host: str, tmp_path: Path, pattern: str, damage: str) -> None:
    loaded = load(tmp_path)
    (path,) = version_folder(tmp_path).glob(pattern)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    if damage == "removed":
        path.unlink()
    if pattern == "features.json":
        # This tfds knows the features without the file.
        assert_same_order(load(tmp_path), loaded)
    else:
        assert "delete it" in refused(lambda: load(tmp_path))


@pytest.mark.parametrize("promised", [2_000_000, 10**15, -1])
def test_promises_of_a_prepared_folder_do_not_take_memory(
    host: str, tmp_path: Path, promised: int
) -> None:
    load(tmp_path)
    path = version_folder(tmp_path) / "dataset_info.json"
    info = json.loads(path.read_text())
    for split in info["splits"]:
        split["shardLengths"] = [str(promised)]
    path.write_text(json.dumps(info))
    tracemalloc.start()
    try:
        assert "delete it" in refused(lambda: load(tmp_path))
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_without_array_record(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path)

    def missing(*args: object) -> None:
        raise ModuleNotFoundError("No module named 'array_record'")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_data_source", missing)
    message = refused(lambda: load(tmp_path))
    assert "pip install" in message
    assert "delete" not in message


def test_tfrecords_are_read_without_tensorflow(host: str, tmp_path: Path) -> None:
    loaded = load(tmp_path)
    as_tfrecord(version_folder(tmp_path))
    assert_same_order(load(tmp_path), loaded)


def test_truncated_tfrecords(host: str, tmp_path: Path) -> None:
    load(tmp_path)
    as_tfrecord(version_folder(tmp_path))
    (path,) = version_folder(tmp_path).glob("mnist-train*")
    content = path.read_bytes()
    for length in (len(content) - 1, len(content) // 2, 7):
        path.write_bytes(content[:length])
        assert "delete it" in refused(lambda: load(tmp_path))
    # This cuts between two records.
    (first,) = struct.unpack_from("<Q", content)
    path.write_bytes(content[: first + 16])
    assert "delete it" in refused(lambda: load(tmp_path))


def as_tfrecord(folder: Path) -> None:
    """Turns a prepared folder into what a program with TensorFlow would have prepared."""
    from array_record.python.array_record_module import ArrayRecordReader

    for path in folder.glob("*.array_record*"):
        reader: Any = ArrayRecordReader(str(path))
        records = [reader.read([index])[0] for index in range(reader.num_records())]
        framed = [struct.pack("<Q4x", len(record)) + record + bytes(4) for record in records]
        path.with_name(path.name.replace("array_record", "tfrecord")).write_bytes(b"".join(framed))
        path.unlink()
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))


def test_two_processes_may_prepare_at_once(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = tfds_images.png
    done = False

    def other_is_quicker(image: np.ndarray) -> io.BytesIO:
        nonlocal done
        if not done:
            done = True
            load(tmp_path)
        return encode(image)

    monkeypatch.setattr(tfds_images, "png", other_is_quicker)
    assert len(load(tmp_path)[0].labels) == 1040


def test_reachable(host: str) -> None:
    assert tfds_images.is_reachable(host + FILES[0], 5)
    assert not tfds_images.is_reachable(host + "nothing", 5)


def test_not_reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        start = time.monotonic()
        assert not tfds_images.is_reachable(f"http://127.0.0.1:{port}/", 0.3)
        assert time.monotonic() - start < 2
    assert not tfds_images.is_reachable(f"http://127.0.0.1:{port}/", 5)
    assert not tfds_images.is_reachable("nonsense", 5)
