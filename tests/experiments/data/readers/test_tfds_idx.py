import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.data import datasets, idx_sets
from experiments.data.catalogue import ROWS
from experiments.data.readers import tfds_images
from experiments.data.sources import Request
from experiments.data.split import Split
from tests.experiments.data.fake_idx_sets import EMNIST, NAMES, Made, assert_same, made_of
from tests.experiments.data.tfds_host import forbid_preparing, hosting, own_examples, refused


@pytest.fixture(params=NAMES)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    return made_of(request.param, tmp_path / "files")


def as_multiset(split: Split) -> list[bytes]:
    return sorted(bytes([label]) + image.tobytes() for image, label in zip(*split, strict=True))


@pytest.fixture
def known(made: Made) -> Iterator[tuple[tfds_images.TfdsSet, Any]]:
    """The data set for tfds, whose files are on a host, and the class of its own builder."""
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")
    known = idx_sets._SETS[made.name].tfds
    builder = getattr(tfds.image_classification, known.builder)
    names = sorted(path.name for path in made.folder.iterdir())
    with hosting(builder, made.folder, names):
        yield known, builder


def test_downloads_prepares_and_reads(
    made: Made,
    known: tuple[tfds_images.TfdsSet, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = Request(made.name, data_dir=tmp_path / "tfds")
    source = idx_sets.load(request)
    assert as_multiset(source.pool) == as_multiset(made.train)
    assert as_multiset(source.test) == as_multiset(made.test)
    assert "TensorFlow Datasets, whose records are shuffled" in source.note
    assert source.class_names == ROWS[made.name].class_names

    # Neither network nor downloads are needed again.
    forbid_preparing(monkeypatch)
    shutil.rmtree(tmp_path / "tfds" / "downloads")
    again = idx_sets.load(request)
    assert_same(again.pool, source.pool)
    assert_same(again.test, source.test)

    # tfds itself reads what was prepared, as its files have it.
    own = known[1](data_dir=tmp_path / "tfds", config=known[0].config)
    for name, split in (("train", source.pool), ("test", source.test)):
        examples = list(own.as_data_source(name))
        pixels = np.stack([example["image"][:, :, 0] for example in examples])
        if made.name in EMNIST:
            pixels = pixels.transpose(0, 2, 1)
        labels = [example["label"] for example in examples]
        np.testing.assert_array_equal(pixels, split.images)
        np.testing.assert_array_equal(labels, split.labels + (made.name == "emnist_letters"))


def test_examples_are_those_of_tfds(
    made: Made,
    known: tuple[tfds_images.TfdsSet, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of EMNIST, tfds takes as many images as its configuration says, and no more."""
    from tensorflow_datasets.image_classification import mnist as module

    sizes = (len(made.train.labels), len(made.test.labels))
    monkeypatch.setattr(module, "_TRAIN_EXAMPLES", sizes[0])
    monkeypatch.setattr(module, "_TEST_EXAMPLES", sizes[1])
    this, builder_class = known
    builder = builder_class(data_dir=tmp_path, config=this.config)
    if made.name in EMNIST:
        sizes = (sizes[0] - 5, sizes[1] - 3)
        monkeypatch.setattr(builder.builder_config, "train_examples", sizes[0])
        monkeypatch.setattr(builder.builder_config, "test_examples", sizes[1])
    expected = own_examples(builder, module, made.folder, tmp_path / "scratch")
    paths = {path.name: path for path in made.folder.iterdir()}
    found = {name: list(split) for name, split in this.examples(paths, builder).items()}
    assert [len(found["train"]), len(found["test"])] == list(sizes)
    for split, examples in expected.items():
        for (key, example), (own_key, own) in zip(found[split], examples, strict=True):
            assert key == own_key
            assert example.keys() == own.keys()
            assert example["label"] == own["label"]
            np.testing.assert_array_equal(Image.open(example["image"]), own["image"][:, :, 0])
            builder.info.features.encode_example(example)


def test_wrong_download(made: Made, known: tuple[tfds_images.TfdsSet, Any], tmp_path: Path) -> None:
    """The host has another file than the one whose checksum tfds knows."""
    path = max(made.folder.iterdir())
    path.write_bytes(path.read_bytes() + b"\0")
    message = refused(lambda: idx_sets.load(Request(made.name, data_dir=tmp_path / "tfds")))
    assert f"{known[0].title} could not be prepared" in message
    assert not any((tmp_path / "tfds").rglob("dataset_info.json"))


@pytest.mark.parametrize("name", NAMES)
def test_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(tfds_images, "is_reachable", lambda url, timeout: False)
    message = refused(lambda: datasets.load(name, data_dir=tmp_path / "tfds"))
    assert f"{idx_sets._SETS[name].tfds.title} cannot be had: it is not prepared in" in message
    assert "does not answer" in message
    assert "(pass --data_path=DIR, a folder of the four IDX files" in message
    assert not (tmp_path / "tfds").exists()
