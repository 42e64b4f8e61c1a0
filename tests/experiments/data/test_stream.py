"""A data set that goes from one process to another."""

import io

import numpy as np
import pytest

from experiments.data import stream
from experiments.data.datasets import Dataset
from experiments.data.split import Split


def split(count: int, *shape: int, seed: int) -> Split:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, *shape), np.uint8)
    return Split(images, random.integers(0, 3, count, np.int32))


@pytest.mark.parametrize("shape", [(28, 28), (8, 12, 3), (48,)])
def test_comes_as_it_went(shape: tuple[int, ...]) -> None:
    sent = Dataset(
        "glyphs:3",
        # Not contiguous in memory.
        Split(*(values[::2] for values in split(40, *shape, seed=0))),
        split(7, *shape, seed=1),
        split(5, *shape, seed=2),
        "a note with a line\nbreak",
        ("é", "\udcff", "c"),
        {"unseen jitter": split(3, *shape, seed=3), "another": split(1, *shape, seed=4)},
    )
    buffer = io.BytesIO()
    stream.write(sent, buffer)
    buffer.write(b"more")
    buffer.seek(0)
    found = stream.read(buffer)
    assert buffer.read() == b"more"
    for name in ("name", "note", "class_names", "image_shape"):
        assert getattr(found, name) == getattr(sent, name)
    assert list(found.other_tests) == list(sent.other_tests)
    assert found.fingerprint() == sent.fingerprint()
    assert found.train.images.dtype == np.uint8
    assert found.train.labels.dtype == np.int32
