"""What the page to draw on makes of strokes, beside what Python makes of them."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from experiments.data.forms import photos
from experiments.sketchpad.html import form_of
from tests.browser.sketchpad_page import open_page
from tests.experiments.drawn import STROKES, draw
from tests.experiments.sketchpads import untrained

Strokes = Sequence[Sequence[Sequence[float]]]
# Of the page's own figures, in sides of the drawing area.
LETTER_H = [[(0.3, 0.2), (0.3, 0.72)], [(0.65, 0.2), (0.65, 0.72)], [(0.3, 0.46), (0.65, 0.46)]]


def placed(strokes: Strokes, height: float = 0.7, top: float = 0.15) -> list[list[list[float]]]:
    return [[[0.5 + height * (x - 0.3), top + height * y] for x, y in one] for one in strokes]


@pytest.fixture
def mnist_page(page: Page, tmp_path: Path) -> Page:
    open_page(page, untrained(tmp_path), tmp_path)
    return page


@pytest.fixture
def glyph_image(page: Page, tmp_path: Path) -> Callable[[Strokes], np.ndarray]:
    open_page(page, untrained(tmp_path, dataset="glyphs:10"), tmp_path)
    return lambda strokes: image_of(page, strokes)


def image_of(page: Page, strokes: Strokes) -> np.ndarray:
    """The image that the network sees."""
    levels = page.evaluate("(strokes) => Array.from(imageOf(strokes, form))", strokes)
    return np.array(levels, np.uint8).reshape(28, 28)


def raster_of(values: dict[str, Any]) -> np.ndarray:
    return np.array(values["values"]).reshape(values["height"], values["width"])


@pytest.mark.parametrize("digit", STROKES)
def test_a_drawing_is_scaled_and_centred_as_python_does(mnist_page: Page, digit: int) -> None:
    """To one grey level of 255."""
    for height, top in ((0.7, 0.15), (0.23, 0.71), (0.98, 0.01)):
        strokes = placed(STROKES[digit], height, top)
        ink = mnist_page.evaluate(
            """(strokes) => {
              const { width, height, values } = inkFor(strokes, boundsOf(strokes), form);
              return { width, height, values: Array.from(values) };
            }""",
            strokes,
        )
        expected = photos.centred(photos.scaled_to_box(raster_of(ink)))
        found = image_of(mnist_page, strokes)
        assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("digit", STROKES)
def test_a_drawing_looks_like_a_photo_of_the_same_figure(mnist_page: Page, digit: int) -> None:
    """`photos` finds and smooths the ink first: a few per cent of white on average.

    If a figure is as heavy on both sides, chance decides which of two pixels is its middle.
    """
    pen = form_of("mnist").values["pen"]
    picture = draw(digit, size=(400, 300), place=(130, 40), height=200, width=round(200 * pen / 18))
    prepared = photos.prepare(picture)
    assert prepared is not None
    found = image_of(mnist_page, placed(STROKES[digit])).astype(float)
    shifts = itertools.product((-1, 0, 1), repeat=2)
    differences = [np.abs(np.roll(found, shift, (0, 1)) - prepared.pixels) for shift in shifts]
    assert min(difference.mean() for difference in differences) < 0.03 * 255


def test_ink_is_what_lies_within_half_a_pen_of_a_stroke(mnist_page: Page) -> None:
    strokes = [[[2.0, 3.0], [9.0, 5.5], [9.0, 12.0]], [[4.0, 10.0]]]
    raster = mnist_page.evaluate(
        """(strokes) => {
          const size = { width: 14, height: 16, scale: 1, left: 0, top: 0, pen: 3 };
          const { width, height, values } = rasterise(strokes, size);
          return { width, height, values: Array.from(values) };
        }""",
        strokes,
    )
    rows, columns = np.mgrid[:16, :14] + 0.5
    # The distance to a polygon is that to its nearest point; these are close together.
    dense = np.concatenate(
        [
            np.linspace(start, end, 2000)
            for one in strokes
            for start, end in zip(one, one[1:] or one, strict=False)
        ]
    )
    distances = np.hypot(columns[..., None] - dense[:, 0], rows[..., None] - dense[:, 1]).min(-1)
    np.testing.assert_allclose(raster_of(raster), np.clip(2 - distances, 0, 1), atol=1e-2)


def test_the_pen_is_as_wide_in_the_image_whatever_the_size(mnist_page: Page) -> None:
    large, small = (image_of(mnist_page, placed(STROKES[7], height, 0.02)) for height in (0.9, 0.2))
    assert np.abs(large.astype(int) - small).max() <= 40
    assert large.sum() == pytest.approx(small.sum(), rel=0.02)


def ink_box(image: np.ndarray) -> tuple[int, int, int, int]:
    """First and one past the last row, and column, with ink."""
    rows, columns = (np.flatnonzero((image > 127).any(axis)) for axis in (1, 0))
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def test_a_capital_between_the_lines_is_as_high_as_those_of_glyphs(
    glyph_image: Callable[[Strokes], np.ndarray],
) -> None:
    top, bottom, left, right = ink_box(glyph_image(LETTER_H))
    assert abs(bottom - top - form_of("glyphs:10").values["capital"]) < 1
    assert abs((top + bottom) / 2 - 14) <= 0.5
    assert abs((left + right) / 2 - 14) <= 0.5


def test_a_small_letter_stays_small_and_a_wide_one_is_made_to_fit(
    glyph_image: Callable[[Strokes], np.ndarray],
) -> None:
    capital = glyph_image(LETTER_H)
    low = glyph_image([[(x, 0.6 * y) for x, y in stroke] for stroke in LETTER_H])
    assert np.ptp(ink_box(low)[:2]) < 0.75 * np.ptp(ink_box(capital)[:2])
    wide = glyph_image([[(3 * (x - 0.3), y) for x, y in stroke] for stroke in LETTER_H])
    left, right = ink_box(wide)[2:]
    assert right - left == pytest.approx(form_of("glyphs:10").values["extent"], abs=1)


def test_a_letter_is_where_it_was_drawn_or_elsewhere_alike(
    glyph_image: Callable[[Strokes], np.ndarray],
) -> None:
    moved = [[(x + 0.2, y - 0.1) for x, y in stroke] for stroke in LETTER_H]
    difference = glyph_image(LETTER_H).astype(int) - glyph_image(moved)
    assert np.abs(difference).max() <= 1
