import json
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.experiments.data.readers.tfds_images.mnist import assert_same_order, load, version_folder
from tests.experiments.data.tfds_host import forbid_preparing, refused
from tests.experiments.runner import files_under

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")


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


def test_reading_what_is_prepared_writes_nothing(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path)
    before = files_under(tmp_path)
    forbid_preparing(monkeypatch)
    load(tmp_path)
    assert files_under(tmp_path) == before


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
