"""Picture files give what they show, and other files give an error in one line."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.cli.errors import UserError
from experiments.data.readers import pictures
from tests.experiments.drawn import draw
from tests.experiments.fake_mnist import write_idx

DRAWN = draw(7)
SEVERAL = np.random.default_rng(0).integers(0, 256, (3, 28, 28)).astype(np.uint8)


def grey_of(file: Path) -> np.ndarray:
    (picture,) = pictures.read(file)
    assert picture.file == file
    assert picture.place is None
    assert picture.grey.dtype == np.uint8
    return picture.grey


def with_alpha() -> Image.Image:
    """Black ink on a transparent ground."""
    alpha = Image.fromarray(255 - DRAWN)
    return Image.merge("RGBA", [Image.new("L", alpha.size, 0)] * 3 + [alpha])


PHOTOS: dict[str, Callable[[], Image.Image]] = {
    "grey": lambda: Image.fromarray(DRAWN),
    "colour": lambda: Image.fromarray(DRAWN).convert("RGB"),
    "palette": lambda: Image.fromarray(DRAWN).convert("RGB").quantize(256),
    "grey and alpha": lambda: with_alpha().convert("LA"),
    "colour and alpha": with_alpha,
    "16 bits": lambda: Image.fromarray(DRAWN.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("kind", list(PHOTOS))
def test_a_png_of_any_kind_is_seen_as_it_looks(tmp_path: Path, kind: str) -> None:
    PHOTOS[kind]().save(tmp_path / "a.png")
    np.testing.assert_allclose(grey_of(tmp_path / "a.png").astype(int), DRAWN, atol=2)


def test_a_png_of_two_colours(tmp_path: Path) -> None:
    Image.fromarray(DRAWN).point(lambda value: 255 * (value > 127)).convert("1").save(
        tmp_path / "a.png"
    )
    np.testing.assert_array_equal(grey_of(tmp_path / "a.png"), 255 * (DRAWN > 127))


def test_a_palette_with_a_transparent_colour_lies_on_white_paper(tmp_path: Path) -> None:
    ink = Image.fromarray((DRAWN < 128).astype(np.uint8), "P")
    ink.putpalette([0, 0, 255, 0, 0, 0])
    ink.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(grey_of(tmp_path / "a.png"), 255 * (DRAWN >= 128))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg(tmp_path: Path, mode: Any) -> None:
    Image.fromarray(DRAWN).convert("RGB").convert(mode).save(tmp_path / "a.jpeg", quality=95)
    found = grey_of(tmp_path / "a.jpeg").astype(int)
    assert np.abs(found - DRAWN).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_is_turned_as_its_exif_says(tmp_path: Path, orientation: int, suffix: str) -> None:
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).T,
        8: np.rot90,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(DRAWN).save(tmp_path / f"a.{suffix}", exif=exif, quality=100)
    found = grey_of(tmp_path / f"a.{suffix}").astype(int)
    np.testing.assert_allclose(found, turns[orientation](DRAWN), atol=20)


@pytest.mark.parametrize("gz", [False, True])
def test_an_idx_file(tmp_path: Path, gz: bool) -> None:
    found = pictures.read(write_idx(tmp_path / "images", SEVERAL, gz=gz))
    assert [picture.place for picture in found] == [0, 1, 2]
    np.testing.assert_array_equal([picture.grey for picture in found], SEVERAL)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_an_npy_file(tmp_path: Path, dtype: Any) -> None:
    scale = 1 if dtype == np.uint8 else 255
    np.save(tmp_path / "several.npy", (SEVERAL / scale).astype(dtype))
    found = pictures.read(tmp_path / "several.npy")
    assert [picture.name for picture in found][1] == f"{tmp_path / 'several.npy'}[1]"
    np.testing.assert_array_equal([picture.grey for picture in found], SEVERAL)
    np.save(tmp_path / "one.npy", (SEVERAL[0] / scale).astype(dtype))
    np.testing.assert_array_equal(grey_of(tmp_path / "one.npy"), SEVERAL[0])


def test_the_name_does_not_decide(tmp_path: Path) -> None:
    PHOTOS["grey"]().save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.npy")
    np.testing.assert_array_equal(grey_of(tmp_path / "a.npy"), DRAWN)


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(DRAWN).save(file, "png")
    return file.getvalue()


def npy(array: Any, *, pickled: bool = False) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=pickled)
    return file.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """Only a header, which promises this many pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    checked = header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + checked + b"\0\0\0\0IDAT"


MALFORMED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is not a whole PNG, JPEG, IDX or NPY file"),
    "text": (b"hello", "is not a whole PNG, JPEG, IDX or NPY file"),
    "GIF": (b"GIF89a" + bytes(100), "is not a whole PNG, JPEG, IDX or NPY file"),
    "half a PNG": (png()[:300], "is damaged"),
    "changed PNG": (png()[:60] + b"\xff" * 9 + png()[69:], "is damaged"),
    "huge PNG": (png_of_size(10_000, 10_000), "has too many pixels: 89,478,485 are possible"),
    "monstrous PNG": (png_of_size(2**30, 2**30), "has too many pixels"),
    "tiny PNG": (npy(np.zeros((28, 4), np.uint8)), "holds images of 4x28 pixels"),
    "pickle": (npy([{}], pickled=True), "is no NPY file of images"),
    "half an NPY": (npy(SEVERAL)[:500], "is no NPY file of images"),
    "NPY of a promise": (
        npy(SEVERAL).replace(b"(3, 28, 28)", b"(9**9,28,9)"),
        "is no NPY file of images",
    ),
    "NPY of integers": (npy(SEVERAL.astype(int)), "holds int64: images must be uint8, or floats"),
    "NPY of texts": (npy([["a"] * 9] * 9), "images must be uint8, or floats"),
    "NPY of large floats": (npy(SEVERAL.astype(float)), "holds floats from 0 to 255"),
    "NPY of negative floats": (npy(-np.ones((28, 28))), "holds floats from -1 to -1"),
    "NPY of NaN": (npy(np.full((28, 28), np.nan)), "holds floats from nan to nan"),
    "NPY of colours": (npy(np.zeros((28, 28, 3), np.uint8)), "holds images of 3x28 pixels"),
    "NPY of four axes": (npy(np.zeros((1, 28, 28, 1))), r"holds an array \[1, 28, 28, 1\]"),
    "NPY of nothing": (npy(np.zeros((0, 28, 28))), r"holds an array \[0, 28, 28\]"),
    "IDX of labels": (bytes([0, 0, 8, 1, 0, 0, 0, 1, 7]), "should hold images but holds labels"),
    "half an IDX": (bytes([0, 0, 8, 3, 0, 0, 0, 1]), "is truncated"),
    "half a gzip": (b"\x1f\x8b\x08", "is a damaged gzip file"),
}


@pytest.mark.parametrize("kind", list(MALFORMED))
def test_what_is_none_is_told_in_a_line(tmp_path: Path, kind: str) -> None:
    content, message = MALFORMED[kind]
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        pictures.read(tmp_path / "file")
    assert str(caught.value).startswith(str(tmp_path / "file"))


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_any_damage_gives_a_picture_or_a_line(tmp_path: Path, kind: str) -> None:
    whole = io.BytesIO()
    Image.fromarray(DRAWN).save(whole, "png" if kind == "png" else "jpeg")
    rng = np.random.default_rng(0)
    for number in range(200):
        content = bytearray(whole.getvalue())
        for place in rng.integers(0, len(content), 1 + number % 5):
            content[place] = rng.integers(256)
        (tmp_path / "file").write_bytes(
            content[: rng.integers(len(content))] if number % 3 else content
        )
        try:
            found = grey_of(tmp_path / "file")
        except UserError:
            continue
        assert found.ndim == 2


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_what_is_no_file_is_told_in_a_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    if kind == "folder":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(UserError, match="No such file" if kind == "missing" else "is not a file"):
        pictures.read(path)
