"""Reads pictures: PNG, JPEG, and the images of IDX and NPY files."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from experiments.cli.errors import UserError
from experiments.data import idx

_NPY, _IDX, _GZIP = b"\x93NUMPY", b"\0\0", b"\x1f\x8b"
_SMALLEST_SIDE = 8


class Picture(NamedTuple):
    """A picture and where it comes from.

    Attributes:
        file: The file's path.
        place: In a file of several, from 0 on; None in a file of one.
        grey: uint8 `[H, W]`, 0 for black.
    """

    file: Path
    place: int | None
    grey: np.ndarray

    @property
    def name(self) -> str:
        """The file, and the place in it."""
        return str(self.file) if self.place is None else f"{self.file}[{self.place}]"


def read(file: Path) -> list[Picture]:
    """Reads all pictures of a file; its content, not its name, decides its format.

    Raises:
        UserError: The file is not there, is damaged, or is none of these.
    """
    try:
        # Opening a pipe would wait for ever.
        if file.exists() and not file.is_file():
            raise UserError(f"{file} is not a file")
        with file.open("rb") as opened:
            start = opened.read(6)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}") from error
    if start == _NPY:
        array = _read_npy(file)
    elif start.startswith((_IDX, _GZIP)):
        array = idx.read_images(file)
    else:
        array = _read_photo(file)
    if min(array.shape[-2:]) < _SMALLEST_SIDE:
        raise UserError(
            f"{file} holds images of {array.shape[-1]}x{array.shape[-2]} pixels: a digit needs "
            f"{_SMALLEST_SIDE}x{_SMALLEST_SIDE} at least"
        )
    if array.ndim == 2:
        return [Picture(file, None, array)]
    return [Picture(file, place, grey) for place, grey in enumerate(array)]


def _read_npy(file: Path) -> np.ndarray:
    try:
        # Mapped, for the header may promise more than memory holds.
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, TypeError) as error:
        raise UserError(f"{file} is no NPY file of images: {str(error)[:200]}") from error
    if array.ndim not in {2, 3} or not array.size:
        raise UserError(
            f"{file} holds an array {list(array.shape)}: images must be [H, W] or [N, H, W]"
        )
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"{file} holds {array.dtype}: images must be uint8, or floats from 0 to 1")
    if not (array.min() >= 0 and array.max() <= 1):
        raise UserError(
            f"{file} holds floats from {array.min():.4g} to {array.max():.4g}: they must be from "
            "0 to 1"
        )
    return np.rint(255 * np.asarray(array, np.float32)).astype(np.uint8)


def _read_photo(file: Path) -> np.ndarray:
    """A PNG or JPEG file as it is to be seen, in grey, on white paper where it is transparent."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=("PNG", "JPEG")) as image:
                return _grey(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(
            f"{file} has too many pixels: {Image.MAX_IMAGE_PIXELS:,} are possible"
        ) from error
    except UnidentifiedImageError as error:
        raise UserError(f"{file} is not a whole PNG, JPEG, IDX or NPY file") from error
    except Exception as error:  # Pillow raises many kinds
        raise UserError(f"{file} is damaged: {str(error)[:200]}") from error


def _grey(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bits
        return (np.asarray(image).astype(np.uint32) // 257).astype(np.uint8)
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), seen)
    return np.asarray(image.convert("RGB").convert("L"))
