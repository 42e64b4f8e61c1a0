"""Images in files of the user's: a folder with a subfolder for each class, or an NPZ file.

A folder holds PNG and JPEG files, at any depth below `CLASS` in `DIR/CLASS/...`. The classes are
the names of the folders, sorted. Each image is seen as a viewer shows it (turned as its EXIF data
say, on white where it is transparent), cropped to the square in its middle and scaled to
`image_size` pixels; see `framing`. If all images are grey, the data are grey; else all are colour.

An NPZ file holds `images`, uint8 `[N, H, W]` or `[N, H, W, 3]`, and `labels`, integers `[N]`; it
may hold `class_names`, texts `[K]`. Its images keep their size unless `image_size` is given.

Which images are for which set: `DIR/train/CLASS` and `DIR/test/CLASS`, if they are there, are the
training and the test set, and `DIR/validation/CLASS` (or `val`) the validation set; in an NPZ file,
so are `images`, `test_images` and `validation_images`. Otherwise each class's images are put in an
order that looks random: that of a hash of the file's path below the class's folder, or of the
image's content in an NPZ file. The first fifth of them tests, the next fifth validates, and the
rest trains, with one image each at least. If there is a test set but none for validation, the
first fifth of the training set validates. So most images stay in their set when others are added,
the first images of a class are a random sample, and equal images of an NPZ file mostly share a set.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from experiments.cli.errors import UserError, printable
from experiments.cli.progress import followed
from experiments.data.forms.framing import framed
from experiments.data.readers import folder_files, npz, pictures
from experiments.data.sources import Request, SourceData, safe_name
from experiments.data.split import Split, cut_fifths
from experiments.runtime import machine

_SIZE = 32
_BATCH = 256


def load(request: Request) -> SourceData:
    """Reads the images of a folder or an NPZ file.

    Raises:
        UserError: They are not there, cannot be read, or are not what they must be.
    """
    if request.data_path is None:
        raise UserError(
            "--dataset=folder needs --data_path=DIR, a folder with one for each class, or an NPZ "
            "file"
        )
    if "://" in str(request.data_path):
        raise UserError("--data_path must be a path, such as that of a mount, not an address")
    # A shell leaves the tilde of --data_path=~/pets alone.
    path = Path(os.path.expanduser(request.data_path))
    if path.is_dir():
        return _from_folder(path, request.image_size or _SIZE)
    if path.is_file() and path.suffix.lower() == ".npz":
        return _from_npz(path, request.image_size)
    state = "is neither a folder nor an NPZ file" if path.exists() else "is not there"
    raise UserError(f"--data_path: {printable(path)} {state}")


def _from_folder(folder: Path, size: int) -> SourceData:
    found = folder_files.find(folder)
    names = sorted(next(iter(found.sets.values())))
    rows = sorted(
        (name, label, _hash(os.fsencode(file.relative_to(classes[class_name].path))), file)
        for name, classes in found.sets.items()
        for label, class_name in enumerate(names)
        for file in classes[class_name].images
    )
    pixels = _read([file for *_, file in rows], size)
    sets = np.array([name for name, *_ in rows])
    labels = np.array([label for _, label, *_ in rows], np.int32)
    splits = {name: Split(pixels[sets == name], labels[sets == name]) for name in found.sets}
    left_out = f"; {found.left_out:,} other files or folders are left out" * bool(found.left_out)
    return _source(
        safe_name(folder.absolute().name),
        splits,
        tuple(map(printable, names)),
        f"{printable(folder)}, {_form(size)}{left_out}",
        "file names",
    )


def _read(files: Sequence[Path], size: int) -> np.ndarray:
    """All images in one form, uint8 `[N, size, size]` if they are grey, else `[N, size, size, 3]`.

    An image is grey if its channels are equal, whatever its file says.
    """
    images = np.empty((len(files), size, size, 3), np.uint8)
    is_grey = True

    def read(place: int) -> bool:
        photo = pictures.read_photo(files[place], 2 * size)
        pixels = framed(photo, (size, size, 3)).pixels
        images[place] = pixels
        return photo.ndim == 2 or bool((pixels == pixels[..., :1]).all())

    with pictures.without_warnings(), ThreadPoolExecutor(_workers()) as threads:
        results = _in_batches(threads, read, len(files))
        for one in followed(results, len(files), "reading", "images"):
            is_grey &= one
    return np.ascontiguousarray(images[..., 0]) if is_grey else images


def _workers() -> int:
    return min(16, machine.num_cores())


def _in_batches(
    threads: ThreadPoolExecutor, read: Callable[[int], bool], count: int
) -> Iterator[bool]:
    # So that an error ends the work soon, and millions of files are not queued at once.
    for first in range(0, count, _BATCH):
        yield from threads.map(read, range(first, min(first + _BATCH, count)))


def _from_npz(file: Path, size: int | None) -> SourceData:
    content = npz.read(file)
    splits = {}
    for name, split in content.splits.items():
        hashes = [_hash(image.tobytes()) for image in split.images]
        order = sorted(range(len(hashes)), key=lambda row: (split.labels[row], hashes[row]))
        images = split.images[order]
        splits[name] = Split(
            images if size is None else _resized(images, size), split.labels[order]
        )
    form = "" if size is None else f", {_form(size)}"
    what = f"{printable(file)}{form}"
    return _source(safe_name(file.stem), splits, content.class_names, what, "the images")


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8).digest()


def _form(size: int) -> str:
    return f"the square in the middle of each image, scaled to {size}x{size}"


def _resized(images: np.ndarray, size: int) -> np.ndarray:
    shape = (size, size, *images.shape[3:])
    return np.stack([framed(image, shape).pixels for image in images])


def _source(
    name: str, splits: Mapping[str, Split], class_names: tuple[str, ...], what: str, hashed: str
) -> SourceData:
    """The data of splits whose images are in the order that the hash gives."""
    given = dict(splits)
    pool = given.pop("train")
    missing = [one for one in ("test", "validation") if one not in given]
    counts = np.bincount(pool.labels, minlength=len(class_names))
    label, fewest = int(counts.argmin()), int(counts.min())
    if fewest <= len(missing):
        raise UserError(
            f"class {class_names[label]} has {fewest} image{'s' * (fewest != 1)} "
            f"for {', '.join(('training', *missing))}: it needs {len(missing) + 1} at least"
        )
    *cut, pool = cut_fifths(pool, len(missing))
    given |= dict(zip(missing, cut, strict=True))
    parts = " and ".join(f"a fifth of each class for {one}" for one in missing)
    rule = f"; {parts}, by a hash of {hashed}" if missing else ""
    note = f"folder:{name}, {len(class_names):,} classes from {what}{rule}"
    return SourceData(f"folder:{name}", pool, given["test"], note, class_names, given["validation"])
