import errno
import functools
import hashlib
import importlib.metadata
import importlib.util
import multiprocessing
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from experiments.cli.errors import UserError
from experiments.data import datasets, glyphs
from experiments.data.sources import Request, SourceData
from experiments.data.split import Split

DIGITS = glyphs.CHARACTERS[:10]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder in the place of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dropmax_jax" / "glyphs"


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many classes each call of `draw` has drawn; a call takes no time."""
    calls: list[int] = []

    def draw(characters: tuple[str, ...]) -> np.ndarray:
        calls.append(len(characters))
        return drawn(characters)

    monkeypatch.setattr(glyphs, "draw", draw)
    return calls


@functools.cache
def drawn(characters: tuple[str, ...]) -> np.ndarray:
    return REALLY_DRAW(characters)


REALLY_DRAW = glyphs.draw


def load(num_classes: int | None) -> SourceData:
    return glyphs.load(Request("glyphs", num_classes=num_classes))


def sets(data: SourceData) -> list[Split]:
    assert data.validation is not None
    return [data.pool, data.validation, data.test, *data.other_tests.values()]


def refused(num_classes: int | None) -> str:
    with pytest.raises(UserError) as caught:
        load(num_classes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@functools.cache
def fonts() -> dict[str, Any]:
    return {face: glyphs._font(face, content) for face, content in glyphs._read_fonts().items()}


def shapes(face: str, characters: tuple[str, ...]) -> set[tuple[tuple[int, int], bytes]]:
    """The different pictures of characters in a face."""
    found = set()
    for character in characters:
        glyph = glyphs._glyph(fonts()[face], character)
        assert glyph is not None
        found.add((glyph.size, glyph.tobytes()))
    return found


def test_classes_are_the_letters_and_digits_that_all_faces_can_draw() -> None:
    ft2font = pytest.importorskip("matplotlib.ft2font")
    import matplotlib

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    assert len(glyphs.FACES) == 16
    in_all = set.intersection(
        *(set(ft2font.FT2Font(str(folder / f"{face}.ttf")).get_charmap()) for face in glyphs.FACES)
    )
    found = {chr(point) for point in in_all}
    assert set(glyphs.CHARACTERS) <= found
    assert len(set(glyphs.CHARACTERS)) == len(glyphs.CHARACTERS) == 561
    # As this version of Unicode has them.
    if unicodedata.unidata_version <= "15.1.0":
        of_category = {c for c in found if unicodedata.category(c) in {"Lu", "Ll", "Nd"}}
        assert set(glyphs.CHARACTERS) == of_category


def test_classes_are_in_the_order_of_code_points() -> None:
    assert list(glyphs.CHARACTERS) == sorted(glyphs.CHARACTERS)
    first = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert "".join(glyphs.CHARACTERS[:62]) == first


def test_letters_that_are_drawn_alike() -> None:
    """What the module's docstring says of them."""
    for face in glyphs.FACES:
        assert len(shapes(face, glyphs.CHARACTERS[:62])) == 62
    least_errors = [
        100 * (1 - len(shapes(face, glyphs.CHARACTERS)) / 561) for face in glyphs.SEEN_FACES
    ]
    assert np.mean(least_errors) == pytest.approx(9.1, abs=0.05)
    assert len(shapes("DejaVuSans", ("A", "Α", "А"))) == 1  # noqa: RUF001


def test_sets(draws: list[int]) -> None:
    data = load(62)
    assert data.name == "glyphs:62"
    assert data.class_names == glyphs.CHARACTERS[:62]
    assert list(data.other_tests) == ["unseen_jitter"]
    for split, per_class in zip(sets(data), (48, 12, 24, 12), strict=True):
        assert split.images.shape == (62 * per_class, 28, 28)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32
        assert np.bincount(split.labels).tolist() == [per_class] * 62
    images = np.concatenate([split.images for split in sets(data)])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


def test_first_twelve_of_each_class_are_one_of_each_face() -> None:
    for character in "A", "g":
        for places in range(0, 48, 12), range(48, 60, 12), range(84, 96, 12):
            faces = {
                face: [place for place, _ in glyphs._places(face, character)]
                for face in glyphs.SEEN_FACES
            }
            for first in places:
                found = [
                    face
                    for place in range(first, first + 12)
                    for face, own in faces.items()
                    if place in own
                ]
                assert found == list(glyphs.SEEN_FACES)
        unseen = [
            place for face in glyphs.UNSEEN_FACES for place, _ in glyphs._places(face, character)
        ]
        assert sorted(unseen) == list(range(60, 84))


def test_train_per_class(draws: list[int]) -> None:
    dataset = datasets.load("glyphs", num_classes=10, train_per_class=12)
    np.testing.assert_array_equal(dataset.train.images, load(10).pool.images[: 10 * 12])
    assert len(dataset.validation.labels) == 120
    with pytest.raises(UserError, match="largest --train_per_class possible is 48"):
        datasets.load("glyphs", num_classes=10, train_per_class=49)


def test_images_do_not_depend_on_how_many_classes_there_are() -> None:
    some = glyphs.CHARACTERS[:62]
    np.testing.assert_array_equal(drawn(some)[:, :10], drawn(DIGITS))
    last = glyphs.CHARACTERS[-1]
    np.testing.assert_array_equal(drawn(("7", last))[:, 0], drawn(DIGITS)[:, 7])


def digest_of_digits() -> str:
    return hashlib.sha256(REALLY_DRAW(DIGITS).tobytes()).hexdigest()


def test_another_process_draws_the_same_bits() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        other = pool.apply(digest_of_digits)
    assert other == digest_of_digits()


VERSIONS = {
    ("3.9.0", "10.4.0", "2.13.2"): "d18a2515b573417f",
    ("3.11.2", "13.0.0", "2.14.3"): "d18a2515b573417f",
}


def test_digest() -> None:
    versions = (
        importlib.metadata.version("matplotlib"),
        importlib.metadata.version("pillow"),
        str(features.version("freetype2")),
    )
    if versions not in VERSIONS:
        pytest.skip(f"no digest is known for {versions}")
    assert digest_of_digits()[:16] == VERSIONS[versions]


def test_glyphs_fill_their_images_and_are_not_cut_off() -> None:
    images = drawn(glyphs.CHARACTERS[:62]).reshape(-1, 28, 28)
    assert images.max(axis=(1, 2)).min() > 200
    assert images[:, [0, -1], :].max() == 0
    assert images[:, :, [0, -1]].max() == 0
    capital = drawn(("H",))[:, 0] > 64
    heights = capital.any(axis=2).sum(axis=1)
    assert 15 <= heights.min() <= heights.max() <= 25
    assert 17 < heights.mean() < 21


def test_wide_and_high_letters_are_not_cut_off() -> None:
    images = drawn(("W", "Ǽ", "Ю", "Љ", "ʨ", "ĳ", "ΐ", "Ģ"))
    ring = np.concatenate([images[..., [0, -1], :], images[..., [0, -1]].swapaxes(2, 3)])
    assert ring.max() == 0


@pytest.mark.parametrize("chances", [np.zeros(5), np.full(5, 0.5), np.ones(5)])
@pytest.mark.parametrize("size", [(3, 3), (9, 300), (300, 9), (300, 300)])
def test_nothing_of_a_glyph_is_lost(size: tuple[int, int], chances: np.ndarray) -> None:
    """Ink inside the margin stays inside the image, which keeps a border of its own."""
    image = Image.new("L", size)
    image.paste(255, (1, 1, size[0] - 1, size[1] - 1))
    found = glyphs._jittered(image, chances)
    assert found.any()
    assert not found[[0, -1]].any()
    assert not found[:, [0, -1]].any()


def test_digits_can_be_learnt(draws: list[int]) -> None:
    """The nearest of the training images, of ten digits, in new jitter and in new faces."""
    data = load(10)
    train = data.pool.images.reshape(len(data.pool.labels), -1) / 255.0

    def error(split: Split) -> float:
        images = split.images.reshape(len(split.labels), -1) / 255.0
        distances = (train**2).sum(1) - 2 * images @ train.T
        return float(np.mean(data.pool.labels[distances.argmin(1)] != split.labels))

    assert error(data.other_tests["unseen_jitter"]) < 0.15
    assert error(data.test) < 0.35


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


@pytest.mark.parametrize("number", [-1, 0, 1, 562])
def test_wrong_number_of_classes(number: int) -> None:
    assert refused(number) == f"--num_classes must be from 2 to 561, not {number}"


def test_all_classes_by_default(draws: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    blank = np.zeros((96, 561, 28, 28), np.uint8)
    monkeypatch.setattr(glyphs, "draw", lambda characters: blank[:, : len(characters)])
    data = load(None)
    assert data.name == "glyphs:561"
    assert "drawn alike" in data.note
    assert "\n" not in data.note
    assert len(data.test.labels) == 24 * 561


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("importlib.metadata.version", version)
    assert "pip install 'matplotlib" in refused(10)


def test_missing_font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("matplotlib", tmp_path / "__init__.py")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec)
    message = refused(10)
    assert "DejaVuSans.ttf: No such file" in message
    assert "pip install" in message


@pytest.mark.parametrize("content", [b"", b"no font"])
def test_damaged_font(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    fonts = {**glyphs._read_fonts(), "STIXGeneral": content}
    monkeypatch.setattr(glyphs, "_read_fonts", lambda: fonts)
    assert "font STIXGeneral is damaged" in refused(10)


def test_font_that_lacks_a_letter() -> None:
    with pytest.raises(UserError, match="DejaVuSans lacks 中"):
        glyphs.draw(("A", "中"))


def test_bar_only_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    glyphs.draw(("A", "B"))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    # What is done within a second shows none either.
    glyphs.draw(("A", "B"))
    assert capsys.readouterr().err.strip() == ""
