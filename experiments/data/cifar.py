"""CIFAR-10 and CIFAR-100: colour images of 32x32 pixels in 10 or 100 classes."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.cli.errors import UserError
from experiments.data.catalogue import ROWS
from experiments.data.readers import cifar_files, tfds_images
from experiments.data.readers.cifar_files import CIFAR_10, CIFAR_100, Format, Records
from experiments.data.sources import Request, SourceData
from experiments.data.split import Split

_SIZES = (50_000, 10_000)


class _CifarSet(NamedTuple):
    files: Format
    tfds: tfds_images.TfdsSet


def _set(files: Format, builder: str, label_keys: tuple[str, ...]) -> _CifarSet:
    def examples(paths: Mapping[str, Path], owner: Any) -> dict[str, tfds_images.Examples]:
        content = cifar_files.read(paths[f"{files.archive}.tar.gz"], files)
        for key, names in zip(label_keys, content.names, strict=True):
            owner.info.features[key].names = list(names)
        return {
            "train": _examples("train", content.train, label_keys),
            "test": _examples("test", content.test, label_keys),
        }

    shape = (cifar_files.SIDE, cifar_files.SIDE, 3)
    labels = range(files.num_classes[-1])
    return _CifarSet(
        files, tfds_images.TfdsSet(files.title, builder, examples, labels, image_shape=shape)
    )


def _examples(split: str, records: Records, label_keys: tuple[str, ...]) -> tfds_images.Examples:
    # The keys, which decide on the records' order, and the ids are those of tfds's own builder.
    for index, (labels, image) in enumerate(zip(*records, strict=True)):
        numbers = dict(zip(label_keys, labels.tolist(), strict=True))
        yield index, {"id": f"{split}_{index:05d}", "image": tfds_images.png(image), **numbers}


_SETS = {
    "cifar10": _set(CIFAR_10, "Cifar10", ("label",)),
    "cifar100": _set(CIFAR_100, "Cifar100", ("coarse_label", "label")),
}


def load(request: Request) -> SourceData:
    """Reads CIFAR-10 or CIFAR-100 from its binary version, or from TensorFlow Datasets.

    Raises:
        UserError: The data cannot be had or read, or are not what was asked for.
    """
    this = _SETS[request.name]
    title = this.files.title
    expected = ROWS[request.name].class_names
    if request.data_path is None:
        archive = f"{this.files.archive}.tar.gz"
        advice = f"pass --data_path={archive}, the binary version, or the folder it unpacks to"
        pool, test, names = tfds_images.load_or_advise(this.tfds, request.data_dir, advice)
        names = expected or names
        origin = "from TensorFlow Datasets, whose records are shuffled"
    else:
        # A shell leaves the tilde of --data_path=~/cifar alone.
        path = Path(os.path.expanduser(request.data_path))
        content = cifar_files.read(path, this.files)
        pool, test, names = _split(content.train), _split(content.test), content.names[-1]
        if expected and names != expected:
            raise UserError(f"{path} has the classes {', '.join(names)}: they are not {title}'s")
        origin = f"from {path}, in file order"
    sizes = (len(pool.labels), len(test.labels))
    note = f"{title} {origin}: {sizes[0]:,} images to train and validate on, {sizes[1]:,} to test"
    if sizes != _SIZES:
        note += f" (all of it has {_SIZES[0]:,} and {_SIZES[1]:,})"
    return SourceData(request.name, pool, test, note, names)


def _split(records: Records) -> Split:
    # The last label is that of the class; CIFAR-100's first is of a group of classes.
    return Split(records.images, records.labels[:, -1].astype("int32"))
