"""A data set as bytes, to hand it from one process to another. Nothing is pickled."""

import json
import math
from typing import IO

import numpy as np

from experiments.data.datasets import Dataset
from experiments.data.split import Split


def write(dataset: Dataset, stream: IO[bytes]) -> None:
    """Writes a data set: a line of JSON, then the images and labels of each of its sets."""
    splits = (dataset.train, dataset.validation, dataset.test, *dataset.other_tests.values())
    head = {
        "name": dataset.name,
        "note": dataset.note,
        "class_names": dataset.class_names,
        "other_tests": list(dataset.other_tests),
        "shapes": [split.images.shape for split in splits],
    }
    stream.write(json.dumps(head).encode() + b"\n")
    for images, labels in splits:
        stream.write(np.ascontiguousarray(images, np.uint8))
        stream.write(np.ascontiguousarray(labels, np.int32))


def read(stream: IO[bytes]) -> Dataset:
    """The inverse of `write`; reads no further."""
    head = json.loads(stream.readline())
    splits = []
    for shape in head["shapes"]:
        images = np.frombuffer(stream.read(math.prod(shape)), np.uint8).reshape(shape)
        labels = np.frombuffer(stream.read(4 * shape[0]), np.int32)
        splits.append(Split(images, labels))
    train, validation, test, *others = splits
    return Dataset(
        head["name"],
        train,
        validation,
        test,
        head["note"],
        tuple(head["class_names"]),
        dict(zip(head["other_tests"], others, strict=True)),
    )
