"""Glyphs as the tests load them."""

import functools

import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.data import glyphs
from experiments.data.sources import Request, SourceData
from experiments.data.split import Split

DIGITS = glyphs.CHARACTERS[:10]


@functools.cache
def drawn(characters: tuple[str, ...]) -> np.ndarray:
    return REALLY_DRAW(characters)


REALLY_DRAW = glyphs.draw


def load(num_classes: int | None) -> SourceData:
    return glyphs.load(Request("glyphs", num_classes=num_classes))


def sets(data: SourceData) -> list[Split]:
    assert data.validation is not None
    return [data.pool, data.validation, data.test, *data.other_tests.values()]


def refused(num_classes: int | None) -> str:
    with pytest.raises(UserError) as caught:
        load(num_classes)
    assert "\n" not in str(caught.value)
    return str(caught.value)
