"""What tests and measurement of the page to draw on share: its file, and a mouse to draw."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from playwright.sync_api import Page

from dropmax_jax import Heads
from experiments.sketchpad import html
from experiments.trained import TrainedRun

Stroke = Sequence[tuple[float, float]]


def open_page(page: Page, run: TrainedRun, folder: Path, quantised: bool = True) -> None:
    """Writes the page of a run into a folder, and opens it."""
    file = folder / "sketchpad.html"
    file.write_text(html.render(run, quantised), encoding="utf-8")
    page.goto(file.as_uri())


def draw(page: Page, strokes: Sequence[Stroke], height: float = 0.7, top: float = 0.15) -> None:
    """Draws strokes of a box of width 0.6 and height 1, such as those of `drawn`, with the mouse.

    `height` and `top` are those of the figure, in sides of the drawing area.
    """
    pad = page.locator("#pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    assert box is not None
    side = box["width"]
    for stroke in strokes:
        places = [
            (box["x"] + side * (0.5 + height * (x - 0.3)), box["y"] + side * (top + height * y))
            for x, y in stroke
        ]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()


def heads_in_browser(page: Page, images: np.ndarray) -> Heads:
    """The heads `[N, K]` that the open page computes of images, uint8 `[N, H, W]`."""
    found = page.evaluate(
        """(text) => {
          const bytes = bytesOf(text);
          const size = form.side ** 2;
          return Array.from({ length: bytes.length / size }, (_, number) => {
            const image = bytes.subarray(number * size, (number + 1) * size);
            const { logits, priorLogits } = headsOf(network, image, form.side);
            return [Array.from(logits), Array.from(priorLogits)];
          });
        }""",
        base64.b64encode(np.ascontiguousarray(images).tobytes()).decode(),
    )
    return Heads(*jnp.moveaxis(jnp.asarray(found, jnp.float32), 1, 0))


def heads_of_first_seed(run: TrainedRun, images: np.ndarray) -> Heads:
    """The heads `[N, K]` that JAX computes, of the model that is in the page."""
    heads = run.heads(images)
    priors: Any = heads.prior_logits
    return Heads(heads.logits[0], priors[0])
