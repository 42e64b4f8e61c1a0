from pathlib import Path

import numpy as np
import pytest

from experiments.data import glyphs
from tests.experiments.data.glyphs.loading import drawn


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder in the place of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dropmax_jax" / "glyphs"


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many classes each call of `draw` has drawn; a call takes no time."""
    calls: list[int] = []

    def draw(characters: tuple[str, ...]) -> np.ndarray:
        calls.append(len(characters))
        return drawn(characters)

    monkeypatch.setattr(glyphs, "draw", draw)
    return calls
