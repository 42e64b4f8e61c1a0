"""Pictures of any size take a form's size, and keep what they show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from experiments.data.forms.framing import framed

SIDES = st.integers(1, 70)
NOISE = np.random.default_rng(0).integers(0, 256, (70, 70, 3)).astype(np.uint8)


@given(SIDES, SIDES, SIDES, SIDES, st.booleans(), st.booleans())
def test_any_picture_takes_any_form(
    down: int, across: int, height: int, width: int, is_colour: bool, to_colour: bool
) -> None:
    picture = NOISE[:down, :across] if is_colour else NOISE[:down, :across, 0]
    shape = (height, width, 3) if to_colour else (height, width)
    pixels, _ = framed(picture, shape)
    assert pixels.shape == shape
    assert pixels.dtype == np.uint8
    assert pixels.min() >= picture.min()
    assert pixels.max() <= picture.max()


@pytest.mark.parametrize("picture", [NOISE, NOISE[..., 0]])
def test_one_in_the_form_is_left_as_it_is(picture: np.ndarray) -> None:
    pixels, done = framed(picture, picture.shape)
    np.testing.assert_array_equal(pixels, picture)
    assert done == "left as it is"


def test_one_that_is_too_wide_by_a_few_pixels_is_only_cropped() -> None:
    pixels, done = framed(NOISE, (70, 61, 3))
    np.testing.assert_array_equal(pixels, NOISE[:, 4:65])
    assert done == "cropped to its middle"


def test_rows_and_columns_are_treated_alike() -> None:
    picture = NOISE[:60]
    turned = framed(picture.swapaxes(0, 1), (20, 20, 3)).pixels.swapaxes(0, 1)
    # Pillow rounds after the rows and after the columns.
    np.testing.assert_allclose(framed(picture, (20, 20, 3)).pixels.astype(int), turned, atol=1)


@pytest.mark.parametrize("factor", [2, 5, 16])
def test_each_pixel_is_about_the_mean_of_its_part(factor: int) -> None:
    # Smooth, for the filter reaches a little beyond the part.
    side = 16 * factor
    rows, columns = np.indices((side, side)) / side
    picture = np.round(127 + 60 * np.sin(3 * rows + 2 * columns)).astype(np.uint8)
    means = picture.reshape(16, factor, 16, factor).mean((1, 3))
    pixels, done = framed(picture, (16, 16))
    np.testing.assert_allclose(pixels, means, atol=2.5)
    assert done == "scaled to 16x16"


def test_grey_in_colour_and_back() -> None:
    grey = NOISE[..., 0]
    colour = framed(grey, (9, 9, 3))
    assert colour.done == "grey in three channels, scaled to 9x9"
    for channel in range(3):
        np.testing.assert_array_equal(colour.pixels[..., channel], framed(grey, (9, 9)).pixels)
    back = framed(np.dstack([grey] * 3), (70, 70))
    np.testing.assert_array_equal(back.pixels, grey)
    assert back.done == "turned grey"


def test_brightness_is_pillows() -> None:
    expected = Image.fromarray(NOISE).convert("L")
    np.testing.assert_array_equal(framed(NOISE, (70, 70)).pixels, expected)
