"""Folders of images: which are read, how, and for which set; and what is told of the others."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.cli.errors import UserError
from experiments.data import datasets
from experiments.data.folder import load
from experiments.data.sources import Request, SourceData
from experiments.data.split import Split
from tests.experiments.data.image_folders import fill, image, read, splits_of


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two classes of five images: `cat` with 0 to 4, and `dog` with 5 to 9."""
    fill(tmp_path / "pets" / "cat")
    fill(tmp_path / "pets" / "dog", first=5)
    return tmp_path / "pets"


def refused(folder: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def values(split: Split) -> list[int]:
    """The images' grey values, sorted."""
    return sorted(map(int, split.images[:, 0, 0].ravel()))


def everything(data: SourceData) -> dict[int, str]:
    """The class of each image, by its grey value."""
    return {
        int(one[0, 0]): data.class_names[label]
        for split in splits_of(data)
        for one, label in zip(*split, strict=True)
    }


class TestSets:
    def test_a_fifth_tests_a_fifth_validates_and_the_rest_trains(self, pets: Path) -> None:
        data = read(pets)
        assert data.name == "folder:pets"
        assert data.class_names == ("cat", "dog")
        assert [len(split.labels) for split in splits_of(data)] == [6, 2, 2]
        assert everything(data) == dict.fromkeys(range(5), "cat") | dict.fromkeys(
            range(5, 10), "dog"
        )
        for split in splits_of(data):
            assert split.images.dtype == np.uint8
            assert split.images.shape[1:] == (8, 8)
            assert set(split.labels) == {0, 1}
        assert "a fifth of each class for test" in data.note
        assert "\n" not in data.note

    def test_new_images_move_few_others(self, pets: Path) -> None:
        fill(pets / "cat", 100)
        before = [set(values(split)) for split in splits_of(read(pets))]
        fill(pets / "cat", 10, first=100)
        after = [set(values(split)) for split in splits_of(read(pets))]
        # Of 105 images.
        assert sum(len(new & old) for new, old in zip(after, before, strict=True)) >= 95

    def test_the_sets_are_those_of_the_names_wherever_the_folder_is(
        self, pets: Path, tmp_path: Path
    ) -> None:
        before = [values(split) for split in splits_of(read(pets))]
        pets.rename(tmp_path / "elsewhere")
        assert [values(split) for split in splits_of(read(tmp_path / "elsewhere"))] == before

    def test_the_first_images_of_each_class_train(self, pets: Path) -> None:
        fill(pets / "cat", 30, first=50)
        whole = datasets.load("folder", data_path=pets, train_per_class=None)
        part = datasets.load("folder", data_path=pets, train_per_class=2)
        assert part.train.labels.tolist() == [0, 0, 1, 1]
        np.testing.assert_array_equal(part.train.images[:2], whole.train.images[:2])
        np.testing.assert_array_equal(part.validation.images, whole.validation.images)
        np.testing.assert_array_equal(part.test.images, whole.test.images)
        with pytest.raises(UserError, match="class dog has 3 training examples"):
            datasets.load("folder", data_path=pets, train_per_class=4)

    @pytest.mark.parametrize("validation", ["val", "validation", "Valid", None])
    def test_folders_of_sets_are_the_sets(self, tmp_path: Path, validation: str | None) -> None:
        for name, first in {"train": 0, "test": 20, validation: 30}.items():
            if name is not None:
                fill(tmp_path / name / "cat", 5, first)
                fill(tmp_path / name / "dog", 5, first + 5)
        train, validates, test = (values(split) for split in splits_of(read(tmp_path)))
        assert test == list(range(20, 30))
        if validation is None:
            assert len(validates) == 2
            assert sorted(train + validates) == list(range(10))
        else:
            assert validates == list(range(30, 40))
            assert train == list(range(10))

    def test_a_class_can_be_called_like_a_set(self, pets: Path) -> None:
        fill(pets / "train", first=50)
        assert read(pets).class_names == ("cat", "dog", "train")

    def test_three_images_are_enough(self, tmp_path: Path) -> None:
        fill(tmp_path / "a", 3)
        fill(tmp_path / "b", 3)
        assert [len(split.labels) for split in splits_of(read(tmp_path))] == [2, 2, 2]
        (tmp_path / "b" / "0.png").unlink()
        assert "class b has 2 images" in refused(tmp_path)


MISTAKES: dict[str, tuple[list[str], str]] = {
    "an empty class": (["a/1.png", "b"], "b is the folder of a class, but holds no images"),
    "a class of hidden files": (["a/1.png", "b/.1.png"], "b is the folder of a class, but"),
    "one class": (["a/1.png"], "holds 1 folder: it must hold one for each class"),
    "no class": (["1.png"], "holds 0 folders: it must hold one for each class"),
    "no test set": (["train/a/1.png", "val/a/1.png"], "holds train, val: name the sets"),
    "more than sets": (["train/a/1.png", "test/a/1.png", "x/a/1.png"], "holds test, train, x"),
    "two validation sets": (["train/a", "test/a", "val/a", "valid/a"], "holds test, train, val"),
    "a class without a test": (
        ["train/a/1.png", "train/b/1.png", "train/c/1.png", "test/a/1.png", "test/b/1.png"],
        "must have the same classes: train has 'c', test has not",
    ),
    "classes that differ in case": (
        ["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/B/1.png"],
        "must have the same classes: test has 'B', train has not",
    ),
    "flat test images": (
        ["train/a/1.png", "train/b/1.png", "test/1.png"],
        "test holds 0 folders",
    ),
}


@pytest.mark.parametrize("kind", list(MISTAKES))
def test_a_folder_of_another_form_is_told_in_a_line(tmp_path: Path, kind: str) -> None:
    paths, message = MISTAKES[kind]
    for path in paths:
        if path.endswith(".png"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            image().save(tmp_path / path)
        else:
            (tmp_path / path).mkdir(parents=True)
    assert message in refused(tmp_path)


class TestFiles:
    def test_what_is_no_image_is_left_out_and_counted(self, pets: Path) -> None:
        for name in ("notes.txt", "Thumbs.db", ".DS_Store", "desktop.ini", ".hidden.png"):
            (pets / "cat" / name).write_bytes(b"text")
        (pets / "labels.csv").write_bytes(b"text")
        fill(pets / ".ipynb_checkpoints")
        fill(pets / "__MACOSX" / "cat")
        fill(pets / "cat" / "@eaDir")
        # One that lies in no class's folder.
        image(99).save(pets / "preview.png")
        data = read(pets)
        assert sorted(everything(data)) == list(range(10))
        assert data.class_names == ("cat", "dog")
        assert "10 other files or folders are left out" in data.note

    def test_images_lie_at_any_depth(self, pets: Path) -> None:
        fill(pets / "cat" / "2024" / "may", first=20)
        assert everything(read(pets))[22] == "cat"

    def test_names_say_little(self, pets: Path) -> None:
        """The content decides on the format, and files without an image's name are looked into."""
        image(20).save(pets / "cat" / "a.PNG")
        image(21).save(pets / "cat" / "wrong.jpg", format="png")
        image(22).save(pets / "cat" / "nothing", format="png")
        image(23).save(pets / "dog" / "a.JPEG", quality=100)
        found = everything(read(pets))
        assert {20, 21, 22} <= {value for value, name in found.items() if name == "cat"}
        assert found[23] == "dog"

    @pytest.mark.parametrize(
        "name",
        [b"\xff\xfe.png", b"two\nlines.png", b"[a]*?.png", b"$x$ %s.png", "ü雪.png".encode()],
    )
    def test_any_name(self, pets: Path, name: bytes) -> None:
        file = Path(os.fsdecode(os.fsencode(pets / "cat") + b"/" + name))
        image(77).save(file)
        assert everything(read(pets))[77] == "cat"
        file.write_bytes(file.read_bytes()[:40])
        refused(pets)

    def test_names_of_classes_are_printable(self, pets: Path) -> None:
        for name in (b"\xff", b"two\nlines", b"[x]"):
            fill(Path(os.fsdecode(os.fsencode(pets) + b"/" + name)))
        assert read(pets).class_names == ("[x]", "cat", "dog", r"two\nlines", r"\udcff")

    def test_classes_can_differ_in_case(self, pets: Path) -> None:
        fill(pets / "Cat", first=20)
        data = read(pets)
        assert data.class_names == ("Cat", "cat", "dog")
        assert everything(data)[20] == "Cat"

    @pytest.mark.parametrize("suffix", ["gif", "webp", "bmp", "TIFF"])
    def test_other_formats_are_refused(self, pets: Path, suffix: str) -> None:
        image().save(pets / "cat" / f"a.{suffix}")
        assert f"a.{suffix}: only PNG and JPEG images can be read" in refused(pets)

    def test_another_format_by_the_name_of_a_png(self, pets: Path) -> None:
        image().save(pets / "cat" / "a.png", format="gif")
        assert "a.png is not a whole PNG or JPEG file" in refused(pets)

    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    @pytest.mark.parametrize("length", [0, 7, -30])
    def test_a_damaged_image_is_named(self, pets: Path, suffix: str, length: int) -> None:
        file = pets / "cat" / f"bad.{suffix}"
        noise = np.random.default_rng(0).integers(0, 256, (50, 50)).astype(np.uint8)
        Image.fromarray(noise).save(file)
        file.write_bytes(file.read_bytes()[:length])
        assert str(file) in refused(pets)

    def test_a_bomb_is_named(self, pets: Path) -> None:
        header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
        chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        file = pets / "cat" / "bomb.png"
        file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT")
        assert f"{file} has too many pixels" in refused(pets)
        # Pillow itself reads this one with a warning.
        image(size=(10_000, 9_000)).save(file)
        assert f"{file} has too many pixels" in refused(pets)

    @pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
    def test_an_unreadable_file_is_named(self, pets: Path) -> None:
        (pets / "cat" / "1.png").chmod(0)
        assert "1.png: Permission denied" in refused(pets)

    def test_a_pipe_is_left_out(self, pets: Path) -> None:
        os.mkfifo(pets / "cat" / "pipe.png")
        assert "1 other files or folders" in read(pets).note


class TestLinks:
    def test_links_are_followed(self, pets: Path, tmp_path: Path) -> None:
        image(40).save(tmp_path / "elsewhere.png")
        (pets / "cat" / "link.png").symlink_to(tmp_path / "elsewhere.png")
        (pets / "cat" / "more").symlink_to(fill(tmp_path / "more", first=50))
        (pets / "fox").symlink_to(fill(tmp_path / "foxes", first=60))
        found = everything(read(pets))
        assert (found[40], found[50], found[60]) == ("cat", "cat", "fox")

    @pytest.mark.parametrize("target", [".", "..", "self", "nowhere"])
    def test_a_loop_or_a_dead_end_is_left_out(self, pets: Path, target: str) -> None:
        (pets / "cat" / "self").symlink_to(target)
        (pets / "around").symlink_to(pets)
        data = read(pets)
        assert sorted(everything(data)) == list(range(10))
        assert sum(len(split.labels) for split in splits_of(data)) == 10
        assert "2 other files or folders" in data.note

    def test_a_folder_that_two_links_lead_to_is_read_once(self, pets: Path, tmp_path: Path) -> None:
        more = fill(tmp_path / "more", 5, first=50)
        for name in ("one", "two"):
            (pets / "cat" / name).symlink_to(more)
        assert sum(len(split.labels) for split in splits_of(read(pets))) == 15

    def test_an_image_that_is_missing_is_named(self, pets: Path) -> None:
        (pets / "cat" / "link.png").symlink_to("nowhere.png")
        assert "link.png: No such file or directory" in refused(pets)


def test_no_folder_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert "none is not there" in refused(tmp_path / "none")
    assert "file is neither a folder nor an NPZ file" in refused(tmp_path / "file")
    with pytest.raises(UserError, match="needs --data_path=DIR"):
        load(Request("folder"))
