"""Figures that are files: drawn without a window and in matplotlib's own style, on any machine.

The user's backend need not be installed, and his style may need what is not, such as TeX.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from experiments.runtime.files import replacing


@contextlib.contextmanager
def _without_the_users_backend() -> Iterator[None]:
    """Matplotlib looks for it while it is imported, and warns of what else it does not know."""
    backend = os.environ.pop("MPLBACKEND", None)
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


with _without_the_users_backend():
    import matplotlib.style
    from matplotlib.figure import Figure

__all__ = ["Figure", "in_own_style", "save"]

in_own_style = matplotlib.style.context("default")
"""A decorator of what draws: the user's own settings neither change a picture nor prevent it."""


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
