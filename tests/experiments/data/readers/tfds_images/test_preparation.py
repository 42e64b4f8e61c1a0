import io
import os
from pathlib import Path

import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.data import datasets
from experiments.data.readers import idx, tfds_idx, tfds_images
from experiments.data.split import Split
from tests.experiments.data.readers.tfds_images.mnist import assert_same_order, load, version_folder
from tests.experiments.data.tfds_host import forbid_preparing, refused
from tests.experiments.runner import files_under

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")


def as_multiset(split: Split) -> list[bytes]:
    return sorted(bytes([label]) + image.tobytes() for image, label in zip(*split, strict=True))


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
