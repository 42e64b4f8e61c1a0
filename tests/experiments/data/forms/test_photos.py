"""Pictures of digits are brought into MNIST's form."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image
from scipy import ndimage

from experiments.data import mnist_5k
from experiments.data.forms import photos
from tests.experiments.drawn import STROKES, draw


def pixels_of(picture: np.ndarray) -> np.ndarray:
    prepared = photos.prepare(picture)
    assert prepared is not None
    assert prepared.pixels.dtype == np.uint8
    assert prepared.pixels.shape == (28, 28)
    return prepared.pixels.astype(float)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The difference of two images relative to their light; 2 if they have nothing in common.

    Centres of mass are rounded to pixels, so a shift by one does not count.
    """
    shifts = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    least = min(np.abs(np.roll(one, shift, (0, 1)) - other).sum() for shift in shifts)
    return float(2 * least / (one.sum() + other.sum()))


def test_all_real_digits_are_left_as_they_are() -> None:
    for image in mnist_5k.read().images:
        prepared = photos.prepare(image)
        assert prepared is not None
        assert prepared.done == "left as it is"
        assert prepared.pixels is image


def test_inverted_real_digits_come_back() -> None:
    """They are nearly the same, and not even moved, except for thin lines, which would fade."""
    images = mnist_5k.read().images[::50]
    differences = [difference(pixels_of(255 - image), image) for image in images]
    assert np.median(differences) < 0.2
    assert np.quantile(differences, 0.95) < 0.6


@pytest.mark.parametrize("digit", list(STROKES))
class TestDrawn:
    def test_fills_the_box_and_is_centred_by_its_mass(self, digit: int) -> None:
        pixels = pixels_of(draw(digit))
        rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        assert pixels.max() == 255
        # Real digits have their mean at 14 too.
        np.testing.assert_allclose(ndimage.center_of_mass(pixels), 14, atol=1)

    def test_keeps_its_aspect(self, digit: int) -> None:
        pixels = pixels_of(draw(digit))
        rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
        ink = draw(digit) < 128
        height, width = np.ptp(np.flatnonzero(ink.any(1))), np.ptp(np.flatnonzero(ink.any(0)))
        expected = width / height * (np.ptp(rows) + 1)
        assert np.ptp(columns) + 1 == pytest.approx(expected, abs=1.5)

    @pytest.mark.parametrize("place", [(5, 5), (20, 50), (130, 5), (120, 52)])
    def test_may_be_anywhere(self, digit: int, place: tuple[int, int]) -> None:
        moved = pixels_of(draw(digit, place=place))
        assert difference(moved, pixels_of(draw(digit))) < 0.1

    def test_may_be_light_on_dark(self, digit: int) -> None:
        picture = draw(digit)
        np.testing.assert_allclose(pixels_of(255 - picture), pixels_of(picture), atol=1)

    @pytest.mark.parametrize("factor", [0.5, 2, 5, 20])
    def test_may_be_of_any_size(self, digit: int, factor: float) -> None:
        """Sizes go up to twelve million pixels."""
        numbers = [round(factor * number) for number in (200, 150, 95, 25, 90, 9)]
        scaled = draw(
            digit,
            size=(numbers[0], numbers[1]),
            place=(numbers[2], numbers[3]),
            height=numbers[4],
            width=numbers[5],
        )
        assert difference(pixels_of(scaled), pixels_of(draw(digit))) < 0.5

    @pytest.mark.parametrize("contrast", [0.25, 0.6])
    def test_may_be_faint(self, digit: int, contrast: float) -> None:
        picture = draw(digit)
        faint = np.rint(230 - contrast * (255.0 - picture)).astype(np.uint8)
        assert difference(pixels_of(faint), pixels_of(picture)) < 0.1

    @pytest.mark.parametrize("width", [1, 2, 20])
    def test_may_be_thin_or_thick(self, digit: int, width: int) -> None:
        pixels = pixels_of(draw(digit, width=width))
        assert pixels.max() == 255
        # A stroke of one pixel has the light of 20 pixels, but would fade to a quarter of it.
        assert pixels.sum() / 255 > 20

    @pytest.mark.parametrize("light", ["left", "below", "middle"])
    def test_may_be_lit_unevenly(self, digit: int, light: str) -> None:
        picture = draw(digit)
        assert difference(pixels_of(uneven(picture, light)), pixels_of(picture)) < 0.35

    def test_may_be_noisy(self, digit: int) -> None:
        picture = draw(digit)
        noise = np.random.default_rng(0).normal(0, 12, picture.shape)
        noisy = np.clip(0.8 * picture + noise, 0, 255).astype(np.uint8)
        noisy[3:5, 3:5] = 0  # a speck of dust
        assert difference(pixels_of(noisy), pixels_of(picture)) < 0.25

    def test_says_what_was_done(self, digit: int) -> None:
        prepared = photos.prepare(draw(digit))
        light = photos.prepare(255 - draw(digit))
        assert prepared is not None
        assert light is not None
        assert prepared.done.startswith("inverted, cropped to ")
        assert prepared.done.endswith("x20, centred")
        assert light.done == prepared.done.removeprefix("inverted, ")


def uneven(picture: np.ndarray, light: str) -> np.ndarray:
    """The picture lit from one side or in its middle, with half the light or less elsewhere."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in picture.shape), indexing="ij")
    level = {"left": 0.7 - 0.3 * x, "below": 0.7 + 0.3 * y, "middle": 1 - 0.25 * (x**2 + y**2)}
    return np.rint(level[light] * picture).astype(np.uint8)


@pytest.mark.parametrize("noise", [0, 5, 15])
@pytest.mark.parametrize("size", [(28, 28), (150, 200), (600, 800)])
@pytest.mark.parametrize("level", [100, 150, 200])
def test_there_is_no_digit_on_blank_paper(level: int, size: tuple[int, int], noise: float) -> None:
    rng = np.random.default_rng(0)
    paper = np.clip(level + rng.normal(0, noise, size), 0, 255).astype(np.uint8)
    assert photos.prepare(paper) is None
    assert photos.prepare(uneven(paper, "left")) is None


def test_small_pictures_are_enlarged() -> None:
    picture = np.asarray(Image.fromarray(draw(0)).resize((16, 12), Image.Resampling.BOX))
    pixels = pixels_of(picture)
    assert np.ptp(np.flatnonzero(pixels.any(1))) + 1 == 20


@settings(max_examples=100)
@given(
    st.tuples(st.integers(8, 120), st.integers(8, 120)),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["noise", "black or white", "specks"]),
)
def test_any_picture_gives_an_image_or_none(size: tuple[int, int], seed: int, kind: str) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    if kind != "noise":
        picture = np.where(picture > (250 if kind == "specks" else 127), 255, 0).astype(np.uint8)
    prepared = photos.prepare(picture)
    if prepared is not None:
        assert prepared.pixels.shape == (28, 28)
        assert prepared.pixels.max() >= 25
