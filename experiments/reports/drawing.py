"""Figures that are files: drawn without a window and in matplotlib's own style, on any machine.

The user's backend need not be installed, and his style may need what is not, such as TeX.
"""

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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

__all__ = ["OKABE_ITO", "Figure", "in_own_style", "save"]

# Okabe and Ito, Color Universal Design, 2008: colours that the colour-blind tell apart too.
OKABE_ITO = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky blue": "#56B4E9",
    "orange": "#E69F00",
    "yellow": "#F0E442",
    "black": "#000000",
}

# A date would make every file a new one.
_OPTIONS: Mapping[str, dict[str, Any]] = {
    "png": {"pil_kwargs": {"optimize": True}},
    "svg": {"metadata": {"Date": None}},
}

in_own_style = matplotlib.style.context("default")
"""A decorator of what draws: the user's own settings neither change a picture nor prevent it."""


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG or SVG, by the file's suffix, whole or not at all.

    The same figure gives the same bytes.
    """
    kind = path.suffix[1:].lower()
    with (
        replacing(path) as temporary,
        warnings.catch_warnings(),
        matplotlib.rc_context({"svg.hashsalt": path.stem}),
    ):
        # A name may have letters of scripts that the font lacks; it draws boxes for them.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(temporary, dpi=120, format=kind, **_OPTIONS[kind])
        if kind == "svg":
            svg = temporary.read_text(encoding="utf-8")
            temporary.write_text(_with_numbered_clips(svg), encoding="utf-8")


def _with_numbered_clips(svg: str) -> str:
    """Names the clipping paths by their order.

    Matplotlib names them by all digits of their places, and the last ones change from run to run.
    """
    numbers: dict[str, str] = {}
    return re.sub(
        r'(?:(?<=id=")|(?<=url\(#))p[0-9a-f]{10}\b',
        lambda found: numbers.setdefault(found[0], f"clip{len(numbers) + 1}"),
        svg,
    )
