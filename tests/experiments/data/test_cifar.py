import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments import images
from experiments.data import cifar, datasets
from experiments.data.readers import tfds_images
from experiments.data.readers.cifar_files import CIFAR_10
from experiments.data.sources import Request
from tests.experiments.data.fake_cifar import (
    FORMATS,
    NAMES,
    class_names,
    contents,
    made_records,
    official,
)
from tests.experiments.data.tfds_host import forbid_preparing, hosting, own_examples, refused
from tests.experiments.runner import files_under, run_here


def as_multiset(images: np.ndarray, labels: np.ndarray) -> list[bytes]:
    return sorted(
        bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True)
    )


@pytest.fixture(params=NAMES)
def hosted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """A data set whose archive is on a host, and the class of tfds's own builder."""
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")
    name = request.param
    path = official(tmp_path / "files", name)
    builder = getattr(tfds.image_classification, cifar._SETS[name].tfds.builder)
    with hosting(builder, path.parent, [path.name]):
        yield name, builder


def test_downloads_prepares_and_reads(
    hosted: tuple[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, builder = hosted
    request = Request(name, data_dir=tmp_path / "tfds")
    source = cifar.load(request)
    for split, per_class, seed in ((source.pool, 2, 0), (source.test, 1, 1)):
        records = made_records(FORMATS[name], per_class, seed)
        assert as_multiset(*split) == as_multiset(records.images, records.labels[:, -1])
    assert source.class_names == class_names(name)
    assert "TensorFlow Datasets, whose records are shuffled" in source.note

    # Neither network nor downloads are needed again.
    forbid_preparing(monkeypatch)
    shutil.rmtree(tmp_path / "tfds" / "downloads")
    again = cifar.load(request)
    for one, other in zip(again.pool + again.test, source.pool + source.test, strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.class_names == source.class_names

    # tfds itself reads what was prepared.
    own = builder(data_dir=tmp_path / "tfds")
    assert tuple(own.info.features["label"].names) == class_names(name)
    for part, split in (("train", source.pool), ("test", source.test)):
        examples = list(own.as_data_source(part))
        np.testing.assert_array_equal([example["image"] for example in examples], split.images)
        np.testing.assert_array_equal([example["label"] for example in examples], split.labels)
        ids = {example["id"].decode() for example in examples}
        assert ids == {f"{part}_{number:05d}" for number in range(len(split.labels))}
        if name == "cifar100":
            groups = [example["coarse_label"] for example in examples]
            np.testing.assert_array_equal(groups, split.labels // 5)


def test_examples_are_those_of_tfds(hosted: tuple[str, Any], tmp_path: Path) -> None:
    from tensorflow_datasets.image_classification import cifar as module

    name, builder_class = hosted
    expected_builder = builder_class(data_dir=tmp_path / "a")
    files = tmp_path / "files"
    expected = own_examples(expected_builder, module, files, tmp_path / "scratch")
    builder = builder_class(data_dir=tmp_path / "b")
    paths = {path.name: path for path in files.iterdir()}
    found = cifar._SETS[name].tfds.examples(paths, builder)
    for split, examples in expected.items():
        for (key, example), (own_key, own) in zip(found[split], examples, strict=True):
            assert key == own_key
            np.testing.assert_array_equal(Image.open(example.pop("image")), own.pop("image"))
            assert example == own
    for feature in ("label", "coarse_label")[: len(FORMATS[name].num_classes)]:
        assert builder.info.features[feature].names == expected_builder.info.features[feature].names


def test_a_download_that_is_no_archive(hosted: tuple[str, Any], tmp_path: Path) -> None:
    name, builder = hosted
    (path,) = (tmp_path / "files").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    request = Request(name, data_dir=tmp_path / "tfds")
    message = refused(lambda: cifar.load(request))
    assert f"{FORMATS[name].title} could not be prepared" in message
    with hosting(builder, path.parent, [path.name]):
        assert "damaged gzip" in refused(lambda: cifar.load(request))
    assert not any((tmp_path / "tfds").rglob("dataset_info.json"))


@pytest.mark.parametrize("name", NAMES)
def test_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(tfds_images, "is_reachable", lambda url, timeout: False)
    message = refused(lambda: datasets.load(name, data_dir=tmp_path / "tfds"))
    assert f"{FORMATS[name].title} cannot be had: it is not prepared in" in message
    assert f"(pass --data_path={FORMATS[name].archive}.tar.gz, the binary version" in message
    assert not (tmp_path / "tfds").exists()


def test_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = contents("cifar10", made_records(CIFAR_10, 108, 0), made_records(CIFAR_10, 3, 1))
    path = official(tmp_path, "cifar10", files)
    folder = tmp_path / "run"
    flags = [f"--savedir={folder}", "--network=tiny", "--train_per_class=8", "--num_epochs=1"]
    data = ["--dataset=cifar10", f"--data_path={path}", "--model=softmax", "--batch_size=20"]
    done = run_here(capfd, *data, *flags, module=images)
    assert done.code == 0, done.stderr
    assert f"data: CIFAR-10 from {path}" in done.stdout
    assert '"dataset": "cifar10"' in (folder / "summary.json").read_text()
    before = files_under(folder)
    for flag in ("--resume", "--mode=test"):
        again = run_here(capfd, flag, f"--savedir={folder}", module=images)
        assert again.code == 0, again.stderr
        assert again.stdout.splitlines()[-2:] == done.stdout.splitlines()[-2:]
    assert files_under(folder) == before
