import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.data import glyphs
from tests.experiments.data.glyphs.loading import load, sets


def test_cache_is_read(cache: Path, draws: list[int]) -> None:
    first = load(10)
    (file,) = cache.iterdir()
    second = load(10)
    assert draws == [10]
    assert list(cache.iterdir()) == [file]
    for one, other in zip(sets(first), sets(second), strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
    load(11)
    assert draws == [10, 11]


@pytest.mark.parametrize("damage", ["emptied", "cut", "flipped", "other"])
def test_damaged_cache_is_drawn_again(cache: Path, draws: list[int], damage: str) -> None:
    images = load(10).pool.images
    (file,) = cache.iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "emptied":
        file.write_bytes(b"")
    elif damage == "cut":
        file.write_bytes(content[:-100])
    elif damage == "flipped":
        file.write_bytes(content)
    else:
        np.savez(file, images=np.zeros(3))
    np.testing.assert_array_equal(load(10).pool.images, images)
    load(10)
    assert draws == [10, 10]


@pytest.mark.parametrize("attribute", ["_DESIGN", "_read_fonts"])
def test_cache_of_another_design_or_font_is_not_read(
    draws: list[int], attribute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(10)
    other: dict[str, Any] = {"_DESIGN": -1, "_read_fonts": lambda: {"face": b"other"}}
    monkeypatch.setattr(glyphs, attribute, other[attribute])
    load(10)
    assert draws == [10, 10]


def test_cache_that_cannot_be_written(
    cache: Path, draws: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    cache.parent.parent.write_text("a file in the folder's place")
    assert len(load(10).pool.labels) == 480
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert f"{cache} cannot keep the images" in printed.err
    load(10)
    assert draws == [10, 10]


def test_full_disk(
    cache: Path,
    draws: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def write_bytes(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    assert len(load(10).pool.labels) == 480
    assert "No space left" in capsys.readouterr().err
    assert list(cache.iterdir()) == []


def test_no_home(
    no_home: None,
    draws: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert len(load(10).pool.labels) == 480
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("value", [None, "", "relative"])
def test_cache_in_the_home(
    draws: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if value is None:
        monkeypatch.delenv("XDG_CACHE_HOME")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", value)
    load(10)
    assert len(list((tmp_path / ".cache" / "dropmax_jax" / "glyphs").iterdir())) == 1
