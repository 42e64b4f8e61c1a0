"""Images of a folder are as they look, in one size, grey or in colour."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.experiments.data.image_folders import fill, image, read

LOOKS: dict[str, tuple[Callable[[], Image.Image], str, Any]] = {
    "CMYK": (lambda: image((255, 0, 0, 0), mode="CMYK"), "jpg", (0, 255, 255)),
    "alpha": (lambda: image((255, 0, 0, 0), mode="RGBA"), "png", 255),
    "half alpha": (lambda: image((255, 0, 0, 128), mode="RGBA"), "png", (255, 127, 127)),
    "grey and alpha": (lambda: image((0, 127), mode="LA"), "png", 128),
    "16 bits": (lambda: Image.fromarray(np.full((9, 9), 25_700, np.uint16)), "png", 100),
    "one bit": (lambda: image(1, mode="1"), "png", 255),
    "colour": (lambda: image((1, 2, 3), mode="RGB"), "png", (1, 2, 3)),
}


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    fill(tmp_path / "cat")
    fill(tmp_path / "dog", first=5)
    return tmp_path


def alone(folder: Path, picture: Image.Image, name: str, **options: Any) -> np.ndarray:
    """How a picture looks as the only test image of its class, beside one in the same mode."""
    for set_name in ("train", "test"):
        for class_name in ("a", "b"):
            fill(folder / set_name / class_name, 2)
    for file in (folder / "test" / "a").iterdir():
        file.unlink()
    picture.save(folder / "test" / "a" / name, **options)
    data = read(folder)
    pixels: np.ndarray = data.test.images[0]
    return pixels.astype(int)


def test_any_colour_makes_all_images_colour(pets: Path) -> None:
    assert read(pets).test.images.shape == (2, 8, 8)
    image((7, 7, 7), mode="RGB").save(pets / "cat" / "0.png")
    assert read(pets).test.images.shape == (2, 8, 8)
    image((7, 7, 8), mode="RGB").save(pets / "cat" / "0.png")
    assert read(pets).test.images.shape == (2, 8, 8, 3)


def test_the_usual_size(pets: Path) -> None:
    assert read(pets, None).test.images.shape == (2, 32, 32)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (5000, 4000)])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_any_number_of_pixels(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    found = alone(tmp_path, image(200, size), f"a.{suffix}")
    np.testing.assert_allclose(found, 200, atol=2)


def test_the_middle_is_kept(tmp_path: Path) -> None:
    picture = image(50, (300, 100))
    picture.paste(150, (100, 0, 200, 100))
    np.testing.assert_array_equal(alone(tmp_path, picture, "a.png"), 150)


@pytest.mark.parametrize("kind", list(LOOKS))
def test_is_as_it_looks(tmp_path: Path, kind: str) -> None:
    make, suffix, expected = LOOKS[kind]
    found = alone(tmp_path, make(), f"a.{suffix}")
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=2)


@pytest.mark.parametrize("transparency", [None, 0])
def test_a_palette(tmp_path: Path, transparency: int | None) -> None:
    picture = image(0, mode="P")
    picture.putpalette([10, 20, 30])
    options = {} if transparency is None else {"transparency": transparency}
    found = alone(tmp_path, picture, "a.png", **options)
    expected = (10, 20, 30) if transparency is None else 255
    np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_is_turned_as_its_exif_says(tmp_path: Path, suffix: str) -> None:
    # Dark on the left; the camera says that this is below.
    picture = image(255, (800, 800))
    picture.paste(0, (0, 0, 400, 800))
    exif = Image.Exif()
    exif[0x0112] = 8
    found = alone(tmp_path, picture, f"a.{suffix}", exif=exif)
    np.testing.assert_allclose(found[:3], 255, atol=3)
    np.testing.assert_allclose(found[-3:], 0, atol=3)


def test_a_file_of_several_pictures_shows_the_first(tmp_path: Path) -> None:
    """As phones write them, in a format that extends JPEG."""
    first, second = image((10, 120, 20), (300, 300), "RGB"), image(9, (300, 300), "RGB")
    found = alone(tmp_path, first, "a.jpg", format="mpo", save_all=True, append_images=[second])
    np.testing.assert_allclose(found, np.broadcast_to((10, 120, 20), found.shape), atol=3)


def test_grey_jpeg_files_of_three_channels_are_grey(pets: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300)).astype(np.uint8)
    Image.fromarray(noise).convert("RGB").save(pets / "cat" / "a.jpg")
    assert read(pets).test.images.shape == (2, 8, 8)
