import functools
import importlib.metadata
import importlib.util
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.data import glyphs
from tests.experiments.data.glyphs.loading import refused


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


def test_letters_that_are_drawn_alike() -> None:
    """What the module's docstring says of them."""
    for face in glyphs.FACES:
        assert len(shapes(face, glyphs.CHARACTERS[:62])) == 62
    least_errors = [
        100 * (1 - len(shapes(face, glyphs.CHARACTERS)) / 561) for face in glyphs.SEEN_FACES
    ]
    assert np.mean(least_errors) == pytest.approx(9.1, abs=0.05)
    assert len(shapes("DejaVuSans", ("A", "Α", "А"))) == 1  # noqa: RUF001


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
