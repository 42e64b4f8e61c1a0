"""Folders of plain images, and what is read from them."""

from pathlib import Path
from typing import Any

from PIL import Image

from experiments.data.folder import load
from experiments.data.sources import Request, SourceData
from experiments.data.split import Split


def image(value: Any = 100, size: tuple[int, int] = (9, 9), mode: Any = "L") -> Image.Image:
    """Of one grey value or colour; `size` is width and height."""
    return Image.new(mode, size, value)


def fill(folder: Path, count: int = 5, first: int = 0) -> Path:
    """Makes images in a folder, whose grey values are their numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        image(number).save(folder / f"{number}.png")
    return folder


def read(folder: Path, size: int | None = 8) -> SourceData:
    return load(Request("folder", data_path=folder, image_size=size))


def splits_of(data: SourceData) -> list[Split]:
    assert data.validation is not None
    return [data.pool, data.validation, data.test]
