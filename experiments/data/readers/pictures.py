"""Reads pictures: PNG, JPEG, and the images of IDX and NPY files."""

import contextlib
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from experiments.cli.errors import UserError, printable
from experiments.data.readers import idx

_NPY, _IDX, _GZIP = b"\x93NUMPY", b"\0\0", b"\x1f\x8b"
_SMALLEST_SIDE = 8


class Picture(NamedTuple):
    """A picture and where it comes from.

    Attributes:
        file: The file's path.
        place: In a file of several, from 0 on; None in a file of one.
        pixels: uint8, grey `[H, W]`, 0 for black, or colour `[H, W, 3]`.
    """

    file: Path
    place: int | None
    pixels: np.ndarray

    @property
    def name(self) -> str:
        """The file, and the place in it."""
        return str(self.file) if self.place is None else f"{self.file}[{self.place}]"

    @property
    def grey(self) -> np.ndarray:
        """uint8 `[H, W]`."""
        if self.pixels.ndim == 2:
            return self.pixels
        return np.asarray(Image.fromarray(self.pixels).convert("L"))


def read(file: Path) -> list[Picture]:
    """Reads all pictures of digits in a file; its content, not its name, decides its format.

    Args:
        file: PNG, JPEG, IDX, or NPY, an array `[H, W]` or `[N, H, W]`.

    Raises:
        UserError: The file is not there, is damaged, is none of these, or has too few pixels.
    """
    found = _read(file, None, colour=False)
    height, width = found[0].pixels.shape[:2]
    if min(height, width) < _SMALLEST_SIDE:
        raise UserError(
            f"{printable(file)} holds images of {width}x{height} pixels: a digit needs "
            f"{_SMALLEST_SIDE}x{_SMALLEST_SIDE} at least"
        )
    return found


def read_any(file: Path, least_side: int | None = None) -> list[Picture]:
    """Reads all pictures of a file, of any size; arrays may also end in 3, for colour.

    Args:
        file: As for `read`.
        least_side: As for `read_photo`.

    Raises:
        UserError: The file is not there, is damaged, or is none of these.
    """
    return _read(file, least_side, colour=True)


def _read(file: Path, least_side: int | None, colour: bool) -> list[Picture]:
    try:
        # Opening a pipe would wait for ever.
        if file.exists() and not file.is_file():
            raise UserError(f"{printable(file)} is not a file")
        with file.open("rb") as opened:
            start = opened.read(6)
    except OSError as error:
        raise UserError(f"{printable(file)}: {error.strerror or error}") from error
    if start == _NPY:
        array = _read_npy(file, colour)
    elif start.startswith((_IDX, _GZIP)):
        array = idx.read_images(file)
    else:
        with without_warnings():
            photo = read_photo(file, least_side, "PNG, JPEG, IDX or NPY file")
        return [Picture(file, None, photo)]
    if array.ndim - (colour and _ends_in_colour(array)) == 2:
        return [Picture(file, None, array)]
    return [Picture(file, place, pixels) for place, pixels in enumerate(array)]


def _ends_in_colour(array: np.ndarray) -> bool:
    return array.ndim > 2 and array.shape[-1] == 3


def _read_npy(file: Path, colour: bool) -> np.ndarray:
    try:
        # Mapped, for the header may promise more than memory holds.
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, TypeError) as error:
        raise UserError(f"{file} is no NPY file of images: {str(error)[:200]}") from error
    if array.ndim - (colour and _ends_in_colour(array)) not in {2, 3} or not array.size:
        also = ", or in colour [H, W, 3] or [N, H, W, 3]" if colour else ""
        raise UserError(
            f"{file} holds an array {list(array.shape)}: images must be [H, W] or [N, H, W]{also}"
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


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Keeps Pillow from warning of what `read_photo` refuses or can do without."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_photo(
    file: Path, least_side: int | None = None, kind: str = "PNG or JPEG file"
) -> np.ndarray:
    """Reads a PNG or JPEG file as it is to be seen.

    It is turned as its EXIF data say, on white paper where it is transparent, and of 8 bits. Its
    content, not its name, decides its format. Threads can call this, in `without_warnings`.

    Args:
        file: The file's path.
        least_side: Height and width may shrink, but not below this, which reads a large JPEG file
            faster; None to read the picture as it is.
        kind: What the error says of a file in another format that it is not.

    Returns:
        uint8, grey `[H, W]` or colour `[H, W, 3]`.

    Raises:
        UserError: The file is not there, is damaged, too large, or in another format.
    """
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            # Pillow itself only warns, up to twice this number.
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise Image.DecompressionBombError
            if least_side is not None:
                image.draft(None, (least_side, least_side))
            return _as_seen(ImageOps.exif_transpose(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(
            f"{printable(file)} has too many pixels: {Image.MAX_IMAGE_PIXELS:,} are possible"
        ) from error
    except UnidentifiedImageError as error:
        raise UserError(f"{printable(file)} is not a whole {kind}") from error
    except Exception as error:  # Pillow raises many kinds
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{printable(file)}: {error.strerror}") from error
        raise UserError(f"{printable(file)} is damaged: {printable(error)[:200]}") from error


def _as_seen(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bits
        return (np.asarray(image).astype(np.uint32) // 257).astype(np.uint8)
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), seen)
    return np.asarray(image.convert("L" if image.mode in {"1", "L"} else "RGB"))
