"""Puts the page together, as one file that needs no other."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from markupsafe import Markup

from dropmax_jax import METHODS, Method
from dropmax_jax.prediction import sample_dropmax_log_probs
from experiments.cli.errors import UserError, printable
from experiments.data import glyphs
from experiments.data.catalogue import row_of
from experiments.data.forms import photos
from experiments.reports.templates import template
from experiments.sketchpad import weights
from experiments.trained import TrainedRun

_PARTS = Path(__file__).parent / "page"
_SCRIPTS = ("network", "dropmax", "preprocess", "drawing", "rows", "masks", "page")


class Form(NamedTuple):
    """How a drawing becomes an image: what `preprocess.js` is told, and the page's readers."""

    values: dict[str, Any]
    text: str
    hint: str = ""


# Strokes are as wide as MNIST's are on average, in pixels of the image.
MNIST_FORM = Form(
    {
        "side": photos.SIDE,
        "box": photos.BOX,
        "pen": 2.3,
        "least": 0.1,
        "shown_pen": 0.08,
        "lines": [],
    },
    f"As MNIST's digits were, your drawing is scaled to {photos.BOX} by {photos.BOX} pixels and "
    f"centred by its mass in {photos.SIDE} by {photos.SIDE}; its strokes become equally wide.",
)

_CAPITAL = glyphs.CAPITAL_HEIGHT * (glyphs.LEAST_SCALE + glyphs.MOST_SCALE) / 2
_TOP, _BASELINE, _GLYPH_PEN = 0.2, 0.72, 2.5
GLYPH_FORM = Form(
    {
        "side": glyphs.SIDE,
        "capital": _CAPITAL,
        "extent": glyphs.LARGEST_EXTENT,
        "pen": _GLYPH_PEN,
        "least": 0.05,
        "top": _TOP,
        "baseline": _BASELINE,
        "shown_pen": _GLYPH_PEN * (_BASELINE - _TOP) / (_CAPITAL - _GLYPH_PEN),
        "lines": [_TOP, _BASELINE],
    },
    "The network was trained on letters of printed fonts, in which size tells c from C: your "
    "drawing keeps its size, and its box is put into the middle.",
    "Capitals and digits reach from line to line.",
)


def form_of(dataset: str) -> Form:
    """The form of the images of a data set of characters."""
    return GLYPH_FORM if row_of(dataset).source == "glyphs" else MNIST_FORM


def check(run: TrainedRun) -> None:
    """Raises `UserError` if the run has no masks as DropMax draws them, or no usable weights."""
    shown = [name for name, method in METHODS.items() if _draws_masks(method)]
    if not _draws_masks(run.setup.method):
        raise UserError(
            f"the model in {run.folder} is {run.config.model}, which lacks the masks that the page "
            f"shows: train one of {', '.join(sorted(shown))}"
        )
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.params)):
        raise UserError(f"the weights of the model in {run.folder} are not finite: train it anew")


def render(run: TrainedRun, quantised: bool = True) -> str:
    """The page of a run's first seed.

    Args:
        run: Of a network in `weights.PADDING`.
        quantised: Whether its weights are int8; else they are float32, and the page is large.
    """
    config, form = run.config, form_of(run.config.dataset)
    names = [printable(name) for name in config.class_names]
    params = jax.tree.map(lambda leaf: leaf[0], run.params)
    model = {
        "names": names,
        "subject": _subject(names),
        "form": form.values,
        "temperature": config.hyperparameters.get(
            "temperature", run.setup.method.hyperparameters["temperature"]
        ),
        "network": weights.pack(params, weights.PADDING[config.network], quantised),
    }
    return template(_PARTS).render(
        model=model,
        run=printable(run.folder.resolve().name),
        subject=model["subject"],
        side=form.values["side"],
        form=form,
        temperature=model["temperature"],
        num_classes=len(names),
        most_entropy=f"{math.log(len(names)):.2f}",
        model_name=config.model,
        network=config.network,
        dataset=printable(config.dataset),
        seed=config.seeds[0],
        precision=" in int8" if quantised else "",
        # These files are the project's own.
        style=Markup(_read(["style.css"])),
        script=Markup(_read([f"{name}.js" for name in _SCRIPTS])),
    )


def _draws_masks(method: Method) -> bool:
    return method.sample_log_probs is sample_dropmax_log_probs


def _subject(names: Sequence[str]) -> str:
    return "digit" if all(name.isdecimal() and len(name) == 1 for name in names) else "character"


def _read(files: Sequence[str]) -> str:
    return "\n".join((_PARTS / file).read_text(encoding="utf-8") for file in files)
