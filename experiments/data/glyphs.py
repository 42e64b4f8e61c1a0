"""Letters and digits of many classes, drawn from the fonts that matplotlib ships.

The classes are the 561 capitals, small letters and decimal digits (Unicode's Lu, Ll and Nd) that
all 16 faces can draw: Latin, Greek and Cyrillic. Each image is a glyph with a small random
rotation, shear, scale and shift. The twelve DejaVu faces train and validate; the four STIX faces
test, so the test set asks for letters in faces that training has not seen.

Some letters are drawn alike: Latin A, Greek Alpha and Cyrillic A are three classes, though a DejaVu
face has one shape for them. So with all 561 classes, no classifier gets below 9.1 % of errors on
the faces it has seen, but for luck. The first 62 classes differ in every face.

An image depends on its character, face and number alone, not on how many classes are asked for.
Drawing all takes some seconds, so they are kept in the user's cache folder.
"""

import hashlib
import importlib.metadata
import importlib.util
import io
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features
from tqdm import tqdm

from experiments.cli.errors import UserError
from experiments.data.sources import Request, SourceData
from experiments.data.split import Split
from experiments.runtime import files, processes

SIDE = 28
SEEN_FACES = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold"),
    *("DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
)
UNSEEN_FACES = ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta")
FACES = SEEN_FACES + UNSEEN_FACES

# Written out, for Unicode reclassifies a letter now and then.
_CODE_POINTS = """
    30-39 41-5a 61-7a b5 c0-d6 d8-f6 f8-180 188 190 192 195 199-19b 19e 1a0-1a1 1a5 1aa-1ab 1ad
    1af-1b0 1ba 1be 1fc-1ff 237 250-293 295-2a8 386 388-38a 38c 38e-3a1 3a3-3ce 3d0-3d2 3d5-3d6
    3d8-3e1 3f0-3f1 3f4-3f5 401-40c 40e-44f 451-45c 45e-45f 462-463 472-473 490-491 1e80-1e85
    1ef2-1ef3 fb01-fb02
"""


def _characters() -> Iterator[str]:
    for run in _CODE_POINTS.split():
        first, _, last = run.partition("-")
        yield from map(chr, range(int(first, 16), int(last or first, 16) + 1))


CHARACTERS = tuple(_characters())
"""The classes, by code point: first the digits, the capitals and the small letters of ASCII."""


class _Part(NamedTuple):
    """One set of images: `per_face` of each class from each face."""

    faces: tuple[str, ...]
    per_face: int

    @property
    def per_class(self) -> int:
        return self.per_face * len(self.faces)


# Each part has a jitter of its own, by its place here.
PARTS = {
    "pool": _Part(SEEN_FACES, 4),
    "validation": _Part(SEEN_FACES, 1),
    "unseen_faces": _Part(UNSEEN_FACES, 6),
    "unseen_jitter": _Part(SEEN_FACES, 1),
}

_PER_CLASS = sum(part.per_class for part in PARTS.values())

# To be changed with anything that changes an image: it is part of the cache's key.
_DESIGN = 1
_SEED = 2018
# Glyphs are drawn this many times as large, and then reduced.
_LARGER = 4
_BEYOND = 8
# In no font: what is drawn for it stands for characters that a font lacks.
_NO_CHARACTER = "\uffff"
# In pixels of the image.
CAPITAL_HEIGHT = 18.0
LARGEST_EXTENT = 25.0
_MOST_SHIFT = 2.0
_MOST_ROTATION = math.radians(10)
_MOST_SHEAR = 0.15
LEAST_SCALE, MOST_SCALE = 0.85, 1.1

_ALIKE = "; letters that are drawn alike, such as Latin and Greek A, count as different classes"
_INSTALL = "pip install --force-reinstall --no-deps 'matplotlib>=3.9'"


def load(request: Request) -> SourceData:
    """Draws the images, or reads them from the cache.

    Args:
        request: `num_classes` takes the first of `CHARACTERS`: 10 are the digits, 62 those and the
            letters of ASCII; all by default.

    Returns:
        A pool of 48 images a class, in which the first twelve of each class are one of each face;
        12 to validate on; 24 to test on, of unseen faces. The other test set has 12, of the faces
        trained on. In all of them, the classes take turns.

    Raises:
        UserError: There are not as many classes, or matplotlib's fonts cannot be had.

    Example:
        >>> data = load(Request("glyphs", num_classes=12))
        >>> data.name, data.pool.images.shape, "".join(data.class_names)
        ('glyphs:12', (576, 28, 28), '0123456789AB')
    """
    num_classes = len(CHARACTERS) if request.num_classes is None else request.num_classes
    if not 2 <= num_classes <= len(CHARACTERS):
        raise UserError(f"--num_classes must be from 2 to {len(CHARACTERS)}, not {num_classes}")
    characters = CHARACTERS[:num_classes]
    images = _cached_or_drawn(characters)
    splits = {}
    first = 0
    for name, part in PARTS.items():
        taken = images[first : first + part.per_class]
        labels = np.tile(np.arange(num_classes, dtype=np.int32), part.per_class)
        splits[name] = Split(taken.reshape(-1, SIDE, SIDE), labels)
        first += part.per_class
    return SourceData(
        f"glyphs:{num_classes}",
        splits["pool"],
        splits["unseen_faces"],
        f"{num_classes} letters and digits drawn from the fonts of matplotlib "
        f"{importlib.metadata.version('matplotlib')}: trained on {len(SEEN_FACES)} faces, tested "
        f"on {len(UNSEEN_FACES)} others{_ALIKE if num_classes == len(CHARACTERS) else ''}",
        characters,
        splits["validation"],
        {"unseen_jitter": splits["unseen_jitter"]},
    )


def draw(characters: tuple[str, ...]) -> np.ndarray:
    """Draws the images of all parts, one after the other.

    Returns:
        uint8 `[N, K, 28, 28]`: N images of each of K characters.

    Raises:
        UserError: matplotlib's fonts cannot be had.
    """
    images = np.empty((_PER_CLASS, len(characters), SIDE, SIDE), np.uint8)
    fonts = {face: _font(face, content) for face, content in _read_fonts().items()}
    with tqdm(
        total=len(fonts) * len(characters),
        desc="drawing glyphs",
        unit="glyph",
        delay=1,
        leave=False,
        disable=not (processes.is_first() and sys.stderr.isatty()),
    ) as bar:
        for face, font in fonts.items():
            absent = _glyph(font, _NO_CHARACTER)
            for label, character in enumerate(characters):
                glyph = _glyph(font, character)
                if glyph is None or glyph == absent:
                    raise UserError(f"matplotlib's font {face} lacks {character}: {_INSTALL}")
                for place, chances in _places(face, character):
                    images[place, label] = _jittered(glyph, chances)
            bar.update(len(characters))
    return images


def drawn_alike(characters: tuple[str, ...]) -> list[list[int]]:
    """The groups of two or more characters, by their places, that no face of training tells apart.

    Raises:
        UserError: matplotlib's fonts cannot be had.

    Example:
        >>> drawn_alike(("A", "B", "\N{GREEK CAPITAL LETTER ALPHA}"))
        [[0, 2]]
    """
    fonts = [_font(face, content) for face, content in _read_fonts().items() if face in SEEN_FACES]
    shapes: dict[tuple[Any, ...], list[int]] = {}
    for place, character in enumerate(characters):
        glyphs = (_glyph(font, character) for font in fonts)
        shape = tuple((glyph.size, glyph.tobytes()) for glyph in glyphs if glyph)
        shapes.setdefault(shape, []).append(place)
    return [group for group in shapes.values() if len(group) > 1]


def _places(face: str, character: str) -> Iterator[tuple[int, np.ndarray]]:
    """Where the images of a face stand in a class, and five numbers from 0 to 1 for each."""
    first = 0
    for purpose, part in enumerate(PARTS.values()):
        if face in part.faces:
            # Only the bits that Philox gives are promised to stay the same with NumPy's versions.
            key = [_SEED, purpose << 40 | FACES.index(face) << 32 | ord(character)]
            bits = np.random.Philox(key=key).random_raw((part.per_face, 5))
            for number, chances in enumerate(bits / 2.0**64):
                yield first + number * len(part.faces) + part.faces.index(face), chances
        first += part.per_class


def _read_fonts() -> dict[str, bytes]:
    """The content of each face's file."""
    # Found without importing matplotlib, which makes a folder in the user's home.
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise UserError(
            "the dataset glyphs is drawn from the fonts of the package matplotlib, which is not "
            "installed: pip install 'matplotlib>=3.9'"
        )
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    contents = {}
    for face in FACES:
        path = folder / f"{face}.ttf"
        try:
            contents[face] = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}: {_INSTALL}") from error
    return contents


def _font(face: str, content: bytes) -> ImageFont.FreeTypeFont:
    """The face, in the size that makes a capital H as high as in the other faces."""
    try:
        trial = _sized(content, 100)
        _, top, _, bottom = trial.getbbox("H")
        return _sized(content, round(100 * _LARGER * CAPITAL_HEIGHT / (bottom - top)))
    except (OSError, ZeroDivisionError) as error:
        raise UserError(f"matplotlib's font {face} is damaged ({error}): {_INSTALL}") from error


def _sized(content: bytes, size: int) -> ImageFont.FreeTypeFont:
    # The other layout engine is not on every machine.
    return ImageFont.truetype(io.BytesIO(content), size, layout_engine=ImageFont.Layout.BASIC)


def _glyph(font: ImageFont.FreeTypeFont, character: str) -> Image.Image | None:
    """A character, light on black, with a margin of a pixel; None if there is nothing to see."""
    left, top, right, bottom = font.getbbox(character)
    # A slanted letter may reach beyond its box.
    size = (math.ceil(right - left) + 2 * _BEYOND, math.ceil(bottom - top) + 2 * _BEYOND)
    image = Image.new("L", size)
    ImageDraw.Draw(image).text((_BEYOND - left, _BEYOND - top), character, fill=255, font=font)
    ink = image.getbbox()
    return ink and image.crop((ink[0] - 1, ink[1] - 1, ink[2] + 1, ink[3] + 1))


def _jittered(glyph: Image.Image, chances: np.ndarray) -> np.ndarray:
    """Turns, shears, scales and shifts a glyph within an image; uint8 `[28, 28]`."""
    rotation, shear, scale, right, down = chances.tolist()
    angle = _MOST_ROTATION * (2 * rotation - 1)
    slant = _MOST_SHEAR * (2 * shear - 1)
    factor = LEAST_SCALE + (MOST_SCALE - LEAST_SCALE) * scale
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = factor * np.array([[cos, cos * slant - sin], [sin, sin * slant + cos]])
    # All of the glyph is to be seen: a wide one is made smaller, and shifted less.
    extent = np.abs(matrix) @ glyph.size
    fit = min(1.0, _LARGER * LARGEST_EXTENT / extent.max())
    room = (_LARGER * LARGEST_EXTENT - fit * extent) / 2
    most = np.minimum(_LARGER * _MOST_SHIFT, room)
    shift = most * (2 * np.array([right, down]) - 1)
    back = np.linalg.inv(fit * matrix)
    # With few bits in each coefficient, Pillow's sums are exact, the same on every processor.
    back = np.round(back * 2**12) / 2**12
    start = np.array(glyph.size) / 2 - back @ (_LARGER * SIDE / 2 + shift)
    start = np.round(start * 2**12) / 2**12
    large = glyph.transform(
        (_LARGER * SIDE, _LARGER * SIDE),
        Image.Transform.AFFINE,
        (*back[0].tolist(), start[0].item(), *back[1].tolist(), start[1].item()),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(large.reduce(_LARGER))


def _cached_or_drawn(characters: tuple[str, ...]) -> np.ndarray:
    """The images that `draw` gives, from the cache if they are there."""
    folder = _cache_folder()
    if folder is None:
        return draw(characters)
    path = folder / f"{len(characters)}_{_key()}.npz"
    images = _read(path, (_PER_CLASS, len(characters), SIDE, SIDE))
    if images is not None:
        return images
    images = draw(characters)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as temporary:
            # savez itself leaves a zip file open when the disk is full.
            buffer = io.BytesIO()
            np.savez(buffer, images=images)
            temporary.write_bytes(buffer.getbuffer())
    except OSError as error:
        if processes.is_first():
            print(
                f"glyphs: {folder} cannot keep the images, which are drawn each time: "
                f"{error.strerror or error}",
                file=sys.stderr,
                flush=True,
            )
    return images


def _cache_folder() -> Path | None:
    """Where images are kept; None for a user without a home."""
    # A relative path is to be ignored: XDG Base Directory Specification 0.8.
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not root.is_absolute():
        try:
            root = Path.home() / ".cache"
        except RuntimeError:
            return None
    return root / "dropmax_jax" / "glyphs"


def _key() -> str:
    """A hash of all that an image depends on."""
    contents = _read_fonts()
    versions = (
        *(importlib.metadata.version(package) for package in ("matplotlib", "pillow")),
        features.version("freetype2"),
        _DESIGN,
    )
    digest = hashlib.sha256(repr(versions).encode())
    for content in contents.values():
        digest.update(content)
    return digest.hexdigest()[:16]


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The images of a file; None if it is not there, or damaged."""
    try:
        # A zip file has a checksum, which NumPy reads to the end.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            images: np.ndarray = arrays["images"]
    except Exception:  # a damaged file raises many kinds
        return None
    return images if images.dtype == np.uint8 and images.shape == shape else None
