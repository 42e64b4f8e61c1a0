import gzip
import os
import tarfile
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data.readers import cifar_files
from experiments.data.readers.cifar_files import Records
from experiments.data.sources import SourceData
from tests.experiments.data.fake_cifar import (
    FORMATS,
    NAMES,
    assert_holds,
    class_names,
    contents,
    load,
    made_records,
    official,
    packed,
    small,
    unpacked,
)
from tests.experiments.data.tfds_host import refused, told_or
from tests.experiments.runner import files_under


@pytest.mark.parametrize(
    "place", ["archive", "tar", "flat", "dotted", "folder", "above", "archive in a folder"]
)
@pytest.mark.parametrize("name", NAMES)
def test_official_files_are_read(tmp_path: Path, name: str, place: str) -> None:
    wanted, files = FORMATS[name], small(name)
    path = tmp_path / "data"
    if place in {"folder", "above"}:
        path = unpacked(path / wanted.folder, files)
        path = path.parent if place == "above" else path
    else:
        inside = {"flat": "", "dotted": f"./{wanted.folder}/"}.get(place, f"{wanted.folder}/")
        path = packed(
            path / f"{wanted.archive}.tar{'' if place == 'tar' else '.gz'}", files, inside
        )
        path = path.parent if place == "archive in a folder" else path
    before = files_under(tmp_path)
    source = load(name, path)
    assert source.name == name
    assert source.class_names == class_names(name)
    assert_holds(source.pool, made_records(wanted, 2, 0))
    assert_holds(source.test, made_records(wanted, 1, 1))
    assert f"{wanted.title} from {path}, in file order: " in source.note
    assert "(all of it has 50,000 and 10,000)" in source.note
    assert files_under(tmp_path) == before


def test_channels_rows_and_columns(tmp_path: Path) -> None:
    """The first bytes after the label are the red of the first row."""
    files = small("cifar10")
    first = bytearray(files["data_batch_1.bin"])
    first[1:3073] = bytes(3072)
    first[1], first[2], first[1 + 32], first[1 + 1024], first[1 + 2048] = 1, 2, 3, 4, 5
    files["data_batch_1.bin"] = bytes(first)
    image = load("cifar10", official(tmp_path, "cifar10", files)).pool.images[0]
    assert image[0, 0].tolist() == [1, 4, 5]
    assert image[0, 1, 0] == 2
    assert image[1, 0, 0] == 3


def test_home_in_data_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = official(tmp_path, "cifar10")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(path) in load("cifar10", Path("~", path.name)).note


Damage = Callable[[dict[str, bytes]], None]


def changed(part: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(files: dict[str, bytes]) -> None:
        (file,) = [name for name in files if part in name]
        files[file] = change(files[file])

    return damage


def without(part: str) -> Damage:
    def damage(files: dict[str, bytes]) -> None:
        (file,) = [name for name in files if part in name]
        del files[file]

    return damage


DAMAGES: dict[str, tuple[str, Damage, str]] = {
    "cut": ("cifar10", changed("batch_3", lambda data: data[:-1]), "whole records of 3073"),
    "longer": ("cifar10", changed("test_batch", lambda data: data + b"\0"), "whole records"),
    "empty": ("cifar10", changed("batch_1", lambda data: b""), "has 0 bytes"),
    "missing": ("cifar10", without("batch_4"), "lacks data_batch_4.bin of CIFAR-10's binary"),
    "no names": ("cifar10", without("meta"), "lacks batches.meta.txt"),
    "label": ("cifar10", changed("batch_5", lambda data: b"\x0a" + data[1:]), "the label 10: "),
    "one name less": (
        "cifar10",
        changed("meta", lambda data: data.replace(b"truck\n", b"")),
        "9 class names, not 10",
    ),
    "other names": (
        "cifar10",
        changed("meta", lambda data: data.replace(b"truck", b"lorry")),
        "lorry: they are not CIFAR-10's",
    ),
    "a name twice": (
        "cifar10",
        changed("meta", lambda data: data.replace(b"truck", b"horse")),
        "not 10 different ones",
    ),
    "no text": ("cifar10", changed("meta", lambda data: b"\xff"), "not a list of class names"),
    "coarse cut": ("cifar100", changed("train", lambda data: data[1:]), "whole records of 3074"),
    "coarse missing": ("cifar100", without("test"), "lacks test.bin of CIFAR-100's binary"),
    "no fine names": ("cifar100", without("fine"), "lacks fine_label_names.txt"),
    "coarse label": (
        "cifar100",
        changed("train", lambda data: b"\x14" + data[1:]),
        "the label 20: labels must be 0 to 19",
    ),
    "fine label": (
        "cifar100",
        changed("test.bin", lambda data: data[:1] + b"\x64" + data[2:]),
        "the label 100: labels must be 0 to 99",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(tmp_path: Path, damage: str) -> None:
    name, change, said = DAMAGES[damage]
    files = small(name)
    change(files)
    for path in (official(tmp_path, name, files), unpacked(tmp_path / "folder", files)):
        message = refused(lambda path=path: load(name, path))  # type: ignore[misc]
        assert str(path) in message
        assert said in message


@pytest.mark.parametrize("kind", ["archive", "folder", "above"])
@pytest.mark.parametrize("name", NAMES)
def test_the_other_of_the_two(tmp_path: Path, name: str, kind: str) -> None:
    (other,) = set(NAMES) - {name}
    if kind == "archive":
        path = official(tmp_path, other)
    else:
        path = unpacked(tmp_path / "data" / FORMATS[other].folder, small(other))
        path = path.parent if kind == "above" else path
    message = refused(lambda: load(name, path))
    assert message == f"{path} holds {FORMATS[other].title}, not {FORMATS[name].title}"


PYTHON = {
    "cifar10": ("cifar-10-batches-py", ["data_batch_1", "test_batch", "batches.meta"]),
    "cifar100": ("cifar-100-python", ["train", "test", "meta"]),
}


@pytest.mark.parametrize("kind", ["archive", "flat", "folder", "above", "renamed"])
@pytest.mark.parametrize("name", NAMES)
def test_the_python_version_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    folder, names = PYTHON[name]
    files = dict.fromkeys(names, b"\x80\x02cos\nsystem\n.")
    if kind in {"archive", "flat"}:
        inside = "" if kind == "flat" else f"{folder}/"
        path = packed(tmp_path / "cifar-python.tar.gz", files, inside)
    else:
        path = unpacked(tmp_path / "data" / ("mine" if kind == "renamed" else folder), files)
        path = path.parent if kind == "above" else path
    message = refused(lambda: load(name, path))
    assert "Python version: take the binary version" in message
    assert message.endswith(f"{FORMATS[name].archive}.tar.gz")


def test_matlabs_version_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar.gz", {"data_batch_1.mat": b"MATLAB"}, "cifar-10-batches-mat/")
    assert "CIFAR-10's Matlab version" in refused(lambda: load("cifar10", path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read as a tar archive"),
        (b"<html>no such page</html>", "cannot be read as a tar archive"),
        (bytes(10_240), "lacks data_batch_1.bin"),
        (gzip.compress(b"", mtime=0), "cannot be read as a tar archive"),
        (gzip.compress(b"no tar", mtime=0), "cannot be read as a tar archive"),
        (gzip.compress(bytes(10_240), mtime=0)[:-1], "damaged gzip"),
        (b"\x1f\x8b", "damaged gzip"),
        (b"BZh91AY", "cannot be read as a tar archive"),
    ],
)
def test_what_is_no_archive(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(content)
    for place in (path, tmp_path):
        message = refused(lambda place=place: load("cifar10", place))  # type: ignore[misc]
        assert str(path) in message
        assert said in message


def test_what_is_no_file(tmp_path: Path) -> None:
    message = refused(lambda: load("cifar10", tmp_path / "nowhere"))
    assert message == f"{tmp_path / 'nowhere'}: No such file or directory"
    os.mkfifo(tmp_path / "pipe")
    assert "is neither a file nor a folder" in refused(lambda: load("cifar10", tmp_path / "pipe"))
    assert "lacks data_batch_1.bin, " in refused(lambda: load("cifar10", tmp_path))
    folder = unpacked(tmp_path / "folder", small("cifar10"))
    (folder / "test_batch.bin").unlink()
    os.mkfifo(folder / "test_batch.bin")
    assert "test_batch.bin is not a file" in refused(lambda: load("cifar10", folder))


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 255), st.booleans())
def test_damage_never_gives_other_images(place: float, value: int, cut: bool) -> None:
    """Whatever byte of a gzipped archive is changed, or wherever it is cut."""
    records = Records(np.zeros((5, 1), np.uint8), np.full((5, 32, 32, 3), 7, np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        files = contents("cifar10", records, records)
        path = official(Path(folder), "cifar10", files)
        content = bytearray(path.read_bytes())
        at = int(place * len(content))
        if cut:
            del content[at:]
        else:
            content[at] = value
        path.write_bytes(content)
        source = told_or(lambda: load("cifar10", path))
        if isinstance(source, SourceData):
            assert_holds(source.pool, records)
            assert_holds(source.test, records)


@given(st.integers(0, 511), st.integers(0, 255), st.integers(0, 2))
def test_any_changed_header_is_refused_or_harmless(at: int, value: int, header: int) -> None:
    records = Records(np.zeros((5, 1), np.uint8), np.full((5, 32, 32, 3), 7, np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        path = packed(Path(folder, "a.tar"), contents("cifar10", records, records), "")
        content = bytearray(path.read_bytes())
        # A header and 3,073 bytes, in blocks of 512.
        content[header * 512 * 8 + at] = value
        path.write_bytes(content)
        source = told_or(lambda: load("cifar10", path))
        if isinstance(source, SourceData):
            assert_holds(source.pool, records)


def raw_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize(
    ("start", "said"),
    [
        # It promises more than a file can have,
        (raw_header("data_batch_1.bin", 200_000_001), "200,000,001 bytes"),
        (raw_header("data_batch_1.bin", 10**15), "bytes: more than 200,000,000"),
        # or than an archive,
        (raw_header("other", 10**15), "larger than the official archive"),
        (raw_header("other", 2**62), "larger than the official archive"),
        # or has a name of such a length,
        (raw_header("other", 10**12, tarfile.GNUTYPE_LONGNAME), "larger than the official"),
        (raw_header("other", 10**12, tarfile.XHDTYPE), "larger than the official archive"),
        # or sends the reader back.
        (raw_header("other", -1024), "tar archive"),
        (raw_header("other", -1024, tarfile.XHDTYPE), "tar archive"),
    ],
)
def test_promises_of_an_archive_do_not_take_memory(
    tmp_path: Path, start: bytes, said: str, gz: bool
) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(start, mtime=0) if gz else start + bytes(1024))
    tracemalloc.start()
    try:
        assert said in refused(lambda: load("cifar10", path))
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_an_archive_that_unpacks_to_more_than_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar_files, "_LARGEST_ARCHIVE", 3_000_000)
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(raw_header("other", 50_000_000) + bytes(50_000_000), 1))
    assert "larger than the official archive" in refused(lambda: load("cifar10", path))
    # So does what follows the end of an archive.
    whole = packed(tmp_path / "a.tar", small("cifar10"), "")
    path.write_bytes(gzip.compress(whole.read_bytes() + bytes(3_000_000), 1))
    assert "larger than the official archive" in refused(lambda: load("cifar10", path))


def test_paths_and_links_lead_nowhere(tmp_path: Path) -> None:
    """Members are read by their names alone, and nothing is written."""
    files = small("cifar10")
    for inside in ("../", "/", "../../cifar-10-batches-bin/", "elsewhere/"):
        path = packed(tmp_path / "data" / "a.tar", files, inside)
        before = files_under(tmp_path)
        assert "lacks data_batch_1.bin" in refused(lambda path=path: load("cifar10", path))  # type: ignore[misc]
        assert files_under(tmp_path) == before
    secret = tmp_path / "secret"
    secret.write_bytes(files["test_batch.bin"])
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
        with tarfile.open(tmp_path / "b.tar", "w") as archive:
            member = tarfile.TarInfo("data_batch_1.bin")
            member.type, member.linkname = kind, str(secret)
            archive.addfile(member)
        assert "is not a file" in refused(lambda: load("cifar10", tmp_path / "b.tar"))


def test_a_file_that_is_there_twice(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar", small("cifar10"), "")
    with tarfile.open(path, "a") as archive:
        archive.addfile(tarfile.TarInfo("test_batch.bin"))
    assert "holds test_batch.bin twice" in refused(lambda: load("cifar10", path))
