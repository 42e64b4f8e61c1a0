import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import images
from experiments.data import idx_sets, mnist
from experiments.data.catalogue import ROWS
from experiments.data.readers import tfds_idx
from experiments.data.sources import SourceData
from tests.experiments.data.fake_idx_sets import (
    EMNIST,
    FOUR_FILES,
    NAMES,
    Made,
    assert_same,
    contents,
    load,
    made_of,
    made_split,
    write,
    zipped,
)
from tests.experiments.data.tfds_host import refused, told_or
from tests.experiments.fake_mnist import idx_bytes, write_mnist
from tests.experiments.runner import files_under, run_here


@pytest.fixture(params=NAMES)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    return made_of(request.param, tmp_path / "files")


def test_official_files_are_read(made: Made) -> None:
    before = files_under(made.folder)
    source = load(made.name, made.folder)
    assert_same(source.pool, made.train)
    assert_same(source.test, made.test)
    assert source.name == made.name
    assert source.class_names == ROWS[made.name].class_names
    assert f"from {made.folder}, in file order: {len(made.train.labels)} images" in source.note
    assert "(all of it has " in source.note
    # Nothing is unpacked.
    assert files_under(made.folder) == before


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize(
    ("name", "below"),
    [
        ("fashion_mnist", ""),
        ("fashion_mnist", "FashionMNIST/raw"),
        ("kmnist", "KMNIST/raw"),
        ("kmnist", "raw"),
        ("emnist_balanced", ""),
        ("emnist_balanced", "gzip"),
        ("emnist_letters", "EMNIST/raw"),
    ],
)
def test_unpacked_files_are_found(tmp_path: Path, name: str, below: str, gz: bool) -> None:
    train, test = made_split(name, 2, 0), made_split(name, 1, 1)
    write(tmp_path / below, contents(name, train, test), gz)
    assert_same(load(name, tmp_path).pool, train)
    assert_same(load(name, tmp_path / below).test, test)


@pytest.mark.parametrize("inside", ["", "gzip/"])
@pytest.mark.parametrize("below", ["", "EMNIST/raw"])
def test_emnists_archive_itself(tmp_path: Path, inside: str, below: str) -> None:
    """It holds all parts of EMNIST, and may have been packed anew."""
    every: dict[str, bytes] = {}
    for name in EMNIST:
        every |= contents(name, made_split(name, 2, 0), made_split(name, 1, 1))
    path = zipped(tmp_path / below / "any.zip", every, inside)
    for name in EMNIST:
        assert_same(load(name, path).pool, made_split(name, 2, 0))


def test_emnists_images_are_turned_upright_and_letters_start_at_0(tmp_path: Path) -> None:
    """An L, as its file holds it: NIST's files have columns for rows."""
    upright = np.zeros((28, 28), np.uint8)
    upright[4:24, 8] = upright[23, 8:18] = 255
    labels = np.array([12, 1, 26])
    files = {
        f"emnist-letters-{split}-{kind}-ubyte": idx_bytes(array)
        for split in ("train", "test")
        for kind, array in (("images-idx3", np.stack([upright.T] * 3)), ("labels-idx1", labels))
    }
    write(tmp_path, files)
    source = load("emnist_letters", tmp_path)
    np.testing.assert_array_equal(source.pool.images, [upright] * 3)
    assert [source.class_names[label] for label in source.test.labels] == ["L", "A", "Z"]
    assert len(source.class_names) == 26
    assert len(ROWS["emnist_balanced"].class_names) == 47


def test_home_in_data_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = "kmnist"
    write(tmp_path / "kmnist", contents(name, made_split(name, 2, 0), made_split(name, 1, 1)))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(tmp_path / "kmnist") in load(name, Path("~/kmnist")).note


def test_all_of_it_is_told_by_its_size(monkeypatch: pytest.MonkeyPatch, made: Made) -> None:
    sizes = (len(made.train.labels), len(made.test.labels))
    known = idx_sets._SETS[made.name]._replace(sizes=sizes)
    monkeypatch.setitem(idx_sets._SETS, made.name, known)
    assert "(all of it" not in load(made.name, made.folder).note


@pytest.mark.parametrize("name", FOUR_FILES)
def test_mnist_is_none_of_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """The digest of these files replaces MNIST's."""
    train, test = write_mnist(tmp_path, train_per_class=2, test_per_class=2)
    monkeypatch.setattr(mnist, "MNIST_DIGEST", mnist._digest(train, test))
    assert f"{tmp_path} are MNIST's" in refused(lambda: load(name, tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_folder(tmp_path: Path, name: str) -> None:
    message = refused(lambda: load(name, tmp_path / "nowhere"))
    assert f"{tmp_path / 'nowhere'}: No such file or directory" in message
    os.mkfifo(tmp_path / "pipe")
    assert "Not a directory" in refused(lambda: load(name, tmp_path / "pipe"))
    assert f"{tmp_path} lacks " in refused(lambda: load(name, tmp_path))
    write_mnist(tmp_path / "other" / "digits", train_per_class=2, test_per_class=2)
    message = refused(lambda: load(name, tmp_path / "other"))
    assert f"{tmp_path / 'other'} lacks " in message


Damage = Callable[[dict[str, bytes], str], None]


def replaced(part: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(files: dict[str, bytes], name: str) -> None:
        for file in files:
            if part in file:
                files[file] = change(files[file])

    return damage


def mixed_up(files: dict[str, bytes], name: str) -> None:
    kinds = list(files)
    files[kinds[0]], files[kinds[1]] = files[kinds[1]], files[kinds[0]]


def without_a_file(files: dict[str, bytes], name: str) -> None:
    del files[list(files)[2]]


def label_beyond(files: dict[str, bytes], name: str) -> None:
    kind = list(files)[3]
    files[kind] = files[kind][:-1] + bytes([idx_sets._SETS[name].tfds.labels[-1] + 1])


def label_0_of_letters(files: dict[str, bytes], name: str) -> None:
    if name != "emnist_letters":
        return label_beyond(files, name)
    kind = list(files)[1]
    files[kind] = files[kind][:-1] + b"\0"
    return None


DAMAGES: dict[str, tuple[Damage, str]] = {
    "truncated": (replaced("images", lambda data: data[:-1]), "is truncated"),
    "longer": (replaced("images", lambda data: data + b"\0"), "goes on"),
    "empty": (replaced("labels", lambda data: b""), "is not an IDX file"),
    "a page": (replaced("images", lambda data: b"<html>"), "is not an IDX file"),
    "32x32": (replaced("images", lambda data: idx_bytes(np.zeros((2, 32, 32)))), "32x32"),
    "one label less": (
        replaced("labels", lambda data: data[:4] + (len(data) - 9).to_bytes(4) + data[8:-1]),
        "do not belong together",
    ),
    "swapped": (mixed_up, "are the files swapped?"),
    "missing": (without_a_file, " lacks "),
    "a label beyond": (label_beyond, "labels must be"),
    "label 0 of letters": (label_0_of_letters, "labels must be"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", NAMES)
def test_damaged_files(tmp_path: Path, name: str, damage: str) -> None:
    files = contents(name, made_split(name, 2, 0), made_split(name, 1, 1))
    change, said = DAMAGES[damage]
    change(files, name)
    write(tmp_path / "files", files)
    paths = [tmp_path / "files"]
    if name in EMNIST:
        paths.append(zipped(tmp_path / "gzip.zip", files))
    for path in paths:
        message = refused(lambda path=path: load(name, path))  # type: ignore[misc]
        assert str(path) in message
        assert said in message
        assert "--mnist_path" not in message


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["cut", "changed"])
def test_damaged_archive(tmp_path: Path, kind: str, place: float) -> None:
    name = "emnist_letters"
    train, test = made_split(name, 2, 0), made_split(name, 1, 1)
    path = zipped(tmp_path / "gzip.zip", contents(name, train, test))
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    if kind == "cut":
        del content[at:]
    else:
        content[at] ^= 255
    path.write_bytes(content)
    assert str(path) in refused(lambda: load(name, path))


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 255))
def test_a_changed_archive_never_gives_other_images(place: float, value: int) -> None:
    name = "emnist_letters"
    train, test = made_split(name, 1, 0), made_split(name, 1, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = zipped(Path(folder, "gzip.zip"), contents(name, train, test))
        content = bytearray(path.read_bytes())
        content[int(place * len(content))] = value
        path.write_bytes(content)
        source = told_or(lambda: load(name, path))
        if isinstance(source, SourceData):
            assert_same(source.pool, train)
            assert_same(source.test, test)


@pytest.mark.parametrize("content", [b"", b"<html>no such page</html>", b"PK\3\4", bytes(5000)])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "gzip.zip"
    path.write_bytes(content)
    for place in (path, tmp_path):
        message = refused(lambda place=place: load("emnist_balanced", place))  # type: ignore[misc]
        assert f"{path} cannot be read as a zip archive" in message


def test_encrypted_archive(tmp_path: Path) -> None:
    name = "emnist_letters"
    path = zipped(
        tmp_path / "gzip.zip", contents(name, made_split(name, 2, 0), made_split(name, 1, 1))
    )
    content = bytearray(path.read_bytes())
    for magic, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = content.find(magic)
        while start >= 0:
            content[start + flags] |= 1
            start = content.find(magic, start + 1)
    path.write_bytes(content)
    assert "encrypted" in refused(lambda: load(name, path))


def test_names_of_emnists_files() -> None:
    assert tfds_idx.emnist_kinds("balanced")[3] == "emnist-balanced-test-labels"


def test_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = "emnist_balanced"
    path = zipped(
        tmp_path / "gzip.zip", contents(name, made_split(name, 104, 0), made_split(name, 2, 1))
    )
    folder = tmp_path / "run"
    flags = [f"--savedir={folder}", "--network=tiny", "--train_per_class=4", "--num_epochs=1"]
    data = [f"--dataset={name}", f"--data_path={path}", "--model=softmax"]
    done = run_here(capfd, *data, *flags, module=images)
    assert done.code == 0, done.stderr
    assert f"data: EMNIST balanced from {path}" in done.stdout
    assert f'"dataset": "{name}"' in (folder / "summary.json").read_text()
    before = files_under(folder)
    for flag in ("--resume", "--mode=test"):
        again = run_here(capfd, flag, f"--savedir={folder}", module=images)
        assert again.code == 0, again.stderr
        assert again.stdout.splitlines()[-2:] == done.stdout.splitlines()[-2:]
    assert files_under(folder) == before
