"""NPZ files of images give them, and other files give an error in one line."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.cli.errors import UserError
from experiments.data import datasets
from experiments.data.folder import load
from experiments.data.forms.framing import framed
from experiments.data.sources import Request, SourceData

RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(3), 10)
IMAGES = RNG.integers(0, 256, (30, 12, 9, 3)).astype(np.uint8)


def written(folder: Path, **arrays: Any) -> Path:
    file = folder / "my data.npz"
    np.savez_compressed(file, **arrays)
    return file


def read(file: Path, size: int | None = None) -> SourceData:
    return load(Request("folder", data_path=file, image_size=size))


def refused(file: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(file)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
    return str(caught.value)


def rows(images: np.ndarray) -> list[bytes]:
    return sorted(image.tobytes() for image in images)


@pytest.mark.parametrize("images", [IMAGES, IMAGES[..., 0], np.asfortranarray(IMAGES)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, ">i2"])
def test_images_are_split_by_their_content(tmp_path: Path, images: np.ndarray, dtype: Any) -> None:
    data = read(written(tmp_path, images=images, labels=LABELS.astype(dtype)))
    assert data.name == "folder:my_data"
    assert data.class_names == ("0", "1", "2")
    assert data.validation is not None
    splits = [data.pool, data.validation, data.test]
    assert [len(split.labels) for split in splits] == [18, 6, 6]
    assert rows(np.concatenate([split.images for split in splits])) == rows(images)
    order = RNG.permutation(30)
    again = read(written(tmp_path, images=images[order], labels=LABELS[order].astype(dtype)))
    np.testing.assert_array_equal(again.test.images, data.test.images)
    np.testing.assert_array_equal(again.pool.images, data.pool.images)
    label_of = {image.tobytes(): label for image, label in zip(images, LABELS, strict=True)}
    for split in splits:
        assert split.labels.dtype == np.int32
        assert split.labels.tolist() == [label_of[image.tobytes()] for image in split.images]


@pytest.mark.parametrize("names", [("test",), ("test", "validation"), ("validation",)])
def test_sets_can_be_given(tmp_path: Path, names: tuple[str, ...]) -> None:
    arrays: dict[str, Any] = {"images": IMAGES, "labels": LABELS}
    for name in names:
        arrays |= {f"{name}_images": IMAGES[::3] // 2, f"{name}_labels": LABELS[::3]}
    data = read(written(tmp_path, **arrays))
    for name in names:
        assert rows(getattr(data, name).images) == rows(IMAGES[::3] // 2)
    assert len(data.pool.labels) == (30 if len(names) == 2 else 24)


def test_classes_can_have_names(tmp_path: Path) -> None:
    names = ["cat", "dog", "two\nlines"]
    file = written(tmp_path, images=IMAGES, labels=LABELS, class_names=names)
    assert read(file).class_names == ("cat", "dog", r"two\nlines")


def test_images_keep_their_size_unless_another_is_given(tmp_path: Path) -> None:
    file = written(tmp_path, images=IMAGES, labels=LABELS)
    assert read(file).pool.images.shape == (18, 12, 9, 3)
    resized = read(file, 8)
    assert rows(resized.test.images) == rows(
        np.stack([framed(image, (8, 8, 3)).pixels for image in read(file).test.images])
    )
    assert "scaled to 8x8" in resized.note


def test_the_first_of_each_class_train(tmp_path: Path) -> None:
    file = written(tmp_path, images=IMAGES, labels=LABELS)
    data = datasets.load("folder", data_path=file, train_per_class=2)
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no labels": ({"images": IMAGES}, "lacks labels: it holds images"),
    "other names": ({"x_train": IMAGES, "y_train": LABELS}, "lacks images and labels: it holds x_"),
    "no test labels": (
        {"images": IMAGES, "labels": LABELS, "test_images": IMAGES},
        "lacks test_labels",
    ),
    "pickled labels": (
        {"images": IMAGES, "labels": np.array([*LABELS[1:], None])},
        "labels holds Python objects",
    ),
    "floats": ({"images": IMAGES / 255, "labels": LABELS}, "images must be uint8 [N, H, W]"),
    "two channels": ({"images": IMAGES[..., :2], "labels": LABELS}, "[30, 12, 9, 2]"),
    "flat images": ({"images": IMAGES[:, 0, :, 0], "labels": LABELS}, "[30, 9]"),
    "no images": ({"images": IMAGES[:0], "labels": LABELS[:0]}, "images is empty: [0, 12, 9, 3]"),
    "labels as floats": ({"images": IMAGES, "labels": LABELS / 1.0}, "must be integers [30]"),
    "labels as booleans": ({"images": IMAGES, "labels": LABELS > 1}, "must be integers [30]"),
    "too few labels": ({"images": IMAGES, "labels": LABELS[1:]}, "int64 [29]"),
    "one-hot labels": ({"images": IMAGES, "labels": np.eye(3, dtype=int)[LABELS]}, "[30, 3]"),
    "negative labels": ({"images": IMAGES, "labels": LABELS - 1}, "count from 0 on, but has -1"),
    "labels from 1 on": ({"images": IMAGES, "labels": LABELS + 1}, "no image has the label 0"),
    "a missing class": ({"images": IMAGES, "labels": 2 * LABELS}, "no image has the label 1"),
    "huge labels": (
        {"images": IMAGES, "labels": np.where(LABELS == 2, 2_000_000_000, LABELS)},
        "no image has the label 2, but labels must be 0 to 2000000000",
    ),
    "larger labels": ({"images": IMAGES, "labels": LABELS + 2**40}, "count from 0 on"),
    "one class": ({"images": IMAGES, "labels": 0 * LABELS}, "holds 1 class: at least 2"),
    "names for fewer": (
        {"images": IMAGES, "labels": LABELS, "class_names": ["a", "b"]},
        "labels go up to 2, but there are 2 classes",
    ),
    "names for more": (
        {"images": IMAGES, "labels": LABELS, "class_names": list("abcd")},
        "no image has the label 3",
    ),
    "equal names": (
        {"images": IMAGES, "labels": LABELS, "class_names": ["a", "a", "b"]},
        "class_names must be different texts",
    ),
    "test images of another size": (
        {
            "images": IMAGES,
            "labels": LABELS,
            "test_images": IMAGES[:, 1:],
            "test_labels": LABELS,
        },
        "test_images must be of the size of images",
    ),
    "test images of another class": (
        {
            "images": IMAGES,
            "labels": LABELS,
            "test_images": IMAGES,
            "test_labels": LABELS + 1,
        },
        "test_labels go up to 3, but there are 3 classes",
    ),
}


@pytest.mark.parametrize("kind", list(MISTAKES))
def test_other_arrays_are_told_in_a_line(tmp_path: Path, kind: str) -> None:
    arrays, message = MISTAKES[kind]
    assert message in refused(written(tmp_path, **arrays))


def test_too_few_images_of_a_class(tmp_path: Path) -> None:
    file = written(tmp_path, images=IMAGES[:22], labels=LABELS[:22])
    with pytest.raises(UserError, match=r"class 2 has 2 images .*: it needs 3 at least"):
        read(file)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a promise of more than memory holds": (
        lambda content: content.replace(b"(30, 12, 9, 3)", b"(9**13,9,9,3) "),
        "images is no array",
    ),
    "a promise in digits": (
        lambda content: content.replace(b"(30, 12, 9, 3)", b"(3000000000000, 12, 9, 3)"),
        "images is",
    ),
    "less than promised": (lambda content: content[:-50], "it has 9,670"),
    "more than promised": (lambda content: content + b"1", "bytes, it has more"),
    "a negative size": (
        lambda content: content.replace(b"(30, 12, 9, 3)", b"(-3, 12, 9, 3)"),
        "images is empty",
    ),
    "no size of items": (
        lambda content: content.replace(b"'|u1'", b"'|V0'"),
        "images is",
    ),
    "no header": (lambda content: content[20:], "images is no array"),
    "no content": (lambda content: b"", "images is no array"),
    "another version": (lambda content: content[:6] + b"\x09" + content[7:], "version"),
}


@pytest.mark.parametrize("kind", list(DAMAGES))
def test_a_false_header_is_told_before_memory_is_claimed(tmp_path: Path, kind: str) -> None:
    damage, message = DAMAGES[kind]
    file = tmp_path / "a.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("images.npy", damage(npy(IMAGES)))
        archive.writestr("labels.npy", npy(LABELS))
    assert message in refused(file)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_archive_is_told(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.npz"
    file.write_bytes(content)
    assert "is not a whole NPZ file" in refused(file)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_gives_images_or_a_line(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(written(tmp_path, images=IMAGES[:, :2, :2], labels=LABELS).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path / "damaged.npz"
    file.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        found = read(file)
    except UserError:
        return
    assert found.test.images.dtype == np.uint8
