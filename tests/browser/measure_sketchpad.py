"""Measures the page to draw on: its size, its differences to JAX, and how soon it answers.

`python -m tests.browser.measure_sketchpad --run=results/dropmax`

The images are the first 1,000 of the run's test set, and the strokes drawn with Chromium's mouse.
An answer is computed when the page is laid out anew. It is shown in the task after the frame in
which it is painted, and that time, from the event of the mouse, includes the wait for the frame, up
to 17 ms at 60 frames a second.
"""

import itertools
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from dropmax_jax import Heads, dropmax_log_probs
from experiments import trained
from experiments.cli import command, run_flags
from experiments.cli.kinds import PATH
from experiments.sketchpad import html
from tests.browser.conftest import ARGUMENTS, chromium
from tests.browser.sketchpad_page import draw, heads_in_browser, heads_of_first_seed, open_page
from tests.experiments.drawn import STROKES

FLAGS = command.Flags()
_folder = run_flags.define(FLAGS, "run")
_SCREENSHOT = FLAGS.define("screenshot", None, "PNG to write, of a drawing in the page", PATH)

_NUM_IMAGES = 1000
_NUM_STROKES = 50

_FOUR_OR_NINE = [
    [(0.52, 0.05), (0.1, 0.55), (0.15, 0.6), (0.55, 0.5)],
    [(0.55, 0.1), (0.45, 1.0)],
]

# The time to compute and lay out each answer, and to show that to the last point of each stroke.
_WATCH = """() => {
  window.times = { computed: [], shown: [] };
  let start = 0;
  let stroke = 0;
  addEventListener("pointermove", () => { start = performance.now(); }, { capture: true });
  addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    document.body.getBoundingClientRect();
    times.computed.push(performance.now() - start);
    const number = stroke;
    requestAnimationFrame(() => setTimeout(() => {
      times.shown[number] = performance.now() - event.timeStamp;
    }));
  });
  addEventListener("pointerup", () => { stroke++; });
}"""


def main() -> None:
    """Runs the command."""
    path = chromium()
    run = trained.load(_folder())
    html.check(run)
    test = trained.load_data(run).test
    images, labels = test.images[:_NUM_IMAGES], test.labels[:_NUM_IMAGES]
    expected = heads_of_first_seed(run, images)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        for quantised in (False, True):
            size = len(html.render(run, quantised).encode())
            open_page(page, run, Path(folder), quantised)
            print(f"{'int8' if quantised else 'float32'}: {size / 1000:.0f} kB")
            _compare(heads_in_browser(page, images), expected, labels)
        _print_times(page)
        if _SCREENSHOT.value is not None:
            _write_screenshot(page, _SCREENSHOT.value)
        browser.close()


def _write_screenshot(page: Page, path: Path) -> None:
    page.get_by_role("button", name="Clear").click()
    draw(page, _FOUR_OR_NINE)
    page.mouse.move(0, 0)
    page.wait_for_timeout(3000)
    page.locator("main").screenshot(path=path)


def _compare(found: Heads, expected: Heads, labels: np.ndarray) -> None:
    """Prints how far the page is from JAX."""
    for name in ("logits", "prior_logits"):
        difference = np.abs(getattr(found, name) - getattr(expected, name)).max()
        largest = np.abs(getattr(expected, name)).max()
        print(f"  {name}: largest difference {difference:.2g}, largest value {largest:.3g}")
    own, jaxs = dropmax_log_probs(found), dropmax_log_probs(expected)
    probs = np.exp(own)
    print(f"  probabilities: largest difference {np.abs(probs - np.exp(jaxs)).max():.2g}")
    chosen, sure = probs.argmax(-1), probs.max(-1) >= 0.5
    print(f"  the same class: {(chosen == jaxs.argmax(-1)).sum()} of {len(labels)}")
    wrong = chosen != labels
    print(f"  wrong: {wrong.sum()}; not sure: {(~sure).sum()}, wrong {wrong[~sure].sum()} of them")


def _print_times(page: Page) -> None:
    """Draws strokes, each in a figure with those before it, and prints how long answers take."""
    page.evaluate(_WATCH)
    figures = itertools.cycle(STROKES.values())
    count = 0
    while count < _NUM_STROKES:
        page.get_by_role("button", name="Clear").click()
        for stroke in next(figures):
            draw(page, [stroke])
            page.wait_for_timeout(200)
            count += 1
    times = page.evaluate("times")
    print(f"{count} strokes, masks sampled meanwhile")
    for kind, of in (
        ("computed", f"each of {len(times['computed'])} points"),
        ("shown", "the last point of each stroke"),
    ):
        # A press of a button is no stroke.
        known = [time for time in times[kind] if time is not None]
        median, most, worst = np.percentile(known, (50, 95, 100))
        print(f"  {kind}, {of}: median {median:.1f}, 95 % {most:.1f}, worst {worst:.1f} ms")


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
