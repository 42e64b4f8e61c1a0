"""The page to draw on, in Chromium."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from dropmax_jax import Heads, concrete_log_mask, dropmax_log_probs, dropmax_uncertainty
from experiments.data import datasets
from experiments.data.datasets import Dataset
from experiments.data.glyphs import CHARACTERS
from experiments.networks._layers import ConvReluPool
from experiments.train import run
from experiments.train.config import Config
from experiments.trained import TrainedRun, load
from tests.browser.conftest import assert_accessible
from tests.browser.sketchpad_page import draw, heads_in_browser, heads_of_first_seed, open_page
from tests.experiments.drawn import STROKES
from tests.experiments.sketchpads import untrained

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return datasets.load("mnist_5k", train_per_class=100)


@pytest.fixture(scope="module")
def learned(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """LeNet, trained with DropMax on 1,000 real digits."""
    folder = tmp_path_factory.mktemp("learned") / "run"
    config = datasets.configured(Config("dropmax", dataset="mnist_5k", num_epochs=30), digits)
    summary = run.train(config, digits, folder)
    assert summary["test_error_percent"][0] < 8
    return load(folder)


@pytest.fixture
def pad(page: Page, learned: TrainedRun, tmp_path: Path) -> Page:
    """The page of the learned run; masks are sampled only when a button is pressed."""
    page.emulate_media(reduced_motion="reduce")
    open_page(page, learned, tmp_path)
    return page


def answer(page: Page) -> str:
    return page.locator("#headline").inner_text()


def said(page: Page) -> str:
    """What a screen reader is given to read."""
    return page.locator("#live").inner_text()


def bars(page: Page, kind: str) -> list[str]:
    return page.locator(f"#classes td.{kind} .value").all_inner_texts()


def press_keys(page: Page, keys: str) -> None:
    for key in keys.split():
        page.keyboard.press(key)


class TestNumbers:
    def test_logits_are_those_of_jax(
        self, page: Page, learned: TrainedRun, digits: Dataset, tmp_path: Path
    ) -> None:
        open_page(page, learned, tmp_path, quantised=False)
        images = digits.test.images[:300]
        found, expected = heads_in_browser(page, images), heads_of_first_seed(learned, images)
        assert np.abs(expected.logits).max() > 3
        np.testing.assert_allclose(found.logits, expected.logits, atol=1e-3)
        np.testing.assert_allclose(found.prior_logits, expected.prior_logits, atol=1e-3)

    @pytest.mark.parametrize("padding", [0, 2])
    def test_convolutions_of_any_size_are_those_of_jax(self, pad: Page, padding: int) -> None:
        """The `cnn` pads, and the page leaves out what pooling leaves out."""
        layer = ConvReluPool(4, padding)
        images = np.random.default_rng(0).normal(0, 1, (1, 9, 12, 3)).astype(np.float32)
        params = layer.init(jax.random.key(0), images)
        expected = np.asarray(layer.apply(params, images))
        found = pad.evaluate(
            """([values, kernel, padding]) => {
              const shape = [5, 5, 3, 4];
              const layer = { shape, kernel, bias: new Float32Array(4), padding };
              const input = { height: 9, width: 12, channels: 3, values };
              const { height, width, channels, values: found } = poolRelu(convolve(input, layer));
              return { shape: [1, height, width, channels], values: Array.from(found) };
            }""",
            [images.ravel().tolist(), params["params"]["kernel"].ravel().tolist(), padding],
        )
        assert found["shape"] == list(expected.shape)
        np.testing.assert_allclose(found["values"], expected.ravel(), atol=1e-5)

    def test_in_int8_almost_all_answers_are_those_of_jax(
        self, pad: Page, learned: TrainedRun, digits: Dataset
    ) -> None:
        images = digits.test.images[:300]
        found, expected = heads_in_browser(pad, images), heads_of_first_seed(learned, images)
        same = dropmax_log_probs(found).argmax(-1) == dropmax_log_probs(expected).argmax(-1)
        assert same.mean() > 0.98

    def test_predictions_and_masks_are_those_of_dropmax_jax(self, pad: Page) -> None:
        rng = np.random.default_rng(0)
        logits, prior_logits = rng.normal(0, 3, (2, 10)).astype(np.float32)
        heads = {"logits": logits.tolist(), "priorLogits": prior_logits.tolist()}
        of_jax = Heads(jnp.asarray(logits), jnp.asarray(prior_logits))
        found = pad.evaluate("(heads) => predictionsOf(heads)", heads)
        probs = np.exp(dropmax_log_probs(of_jax))
        np.testing.assert_allclose(found["dropmax"], probs, atol=1e-6)
        np.testing.assert_allclose(found["logits"], jax.nn.softmax(logits), atol=1e-6)
        np.testing.assert_allclose(found["retained"], jax.nn.sigmoid(prior_logits), atol=1e-6)
        noise = rng.logistic(size=10).astype(np.float32)
        log_mask = pad.evaluate(
            "([logits, noise]) => concreteLogMask(logits, noise, 0.1)",
            [prior_logits.tolist(), noise.tolist()],
        )
        of_noise = concrete_log_mask(prior_logits, noise, 0.1)
        np.testing.assert_allclose(log_mask, of_noise, rtol=1e-4, atol=1e-6)
        mean = pad.evaluate(
            """(heads) => {
              const sums = heads.logits.map(() => 0);
              for (let number = 0; number < 20000; number++) {
                sampleMask(heads, 0.1).probs.forEach((p, k) => { sums[k] += p / 20000; });
              }
              return sums;
            }""",
            heads,
        )
        uncertainty = dropmax_uncertainty(jax.random.key(0), of_jax, 20_000)
        # Six standard errors of the difference of two means, at most.
        np.testing.assert_allclose(mean, np.exp(uncertainty.mean_log_probs), atol=0.03)


class TestDrawing:
    @pytest.mark.parametrize("digit", STROKES)
    def test_a_digit_drawn_with_the_mouse_gets_its_class(self, pad: Page, digit: int) -> None:
        draw(pad, STROKES[digit])
        assert answer(pad) == str(digit)
        assert f"{digit}. DropMax: {digit}" in said(pad)
        assert "nats" in said(pad)

    @pytest.mark.parametrize(("height", "top"), [(0.3, 0.6), (0.95, 0.02)])
    def test_neither_size_nor_place_matters(self, pad: Page, height: float, top: float) -> None:
        draw(pad, STROKES[3], height, top)
        assert answer(pad) == "3"

    def test_a_finger_draws_too(self, pad: Page) -> None:
        pad.evaluate(
            """(strokes) => {
              const pad = document.getElementById("pad");
              const { left, top, width } = pad.getBoundingClientRect();
              pad.setPointerCapture = () => {};
              const touch = (kind, [x, y], pointerId) => pad.dispatchEvent(new PointerEvent(kind, {
                clientX: left + width * (0.3 + 0.7 * x), clientY: top + width * (0.15 + 0.7 * y),
                pointerId, pointerType: "touch", button: kind === "pointermove" ? -1 : 0,
              }));
              for (const stroke of strokes) {
                touch("pointerdown", stroke[0], 5);
                touch("pointerdown", [0, 0], 6);  // A second finger changes nothing.
                for (const point of stroke) touch("pointermove", point, 5);
                touch("pointermove", [1, 1], 6);
                touch("pointerup", stroke.at(-1), 5);
              }
            }""",
            STROKES[7],
        )
        assert answer(pad) == "7"

    def test_an_empty_area_and_a_dot_get_no_class(self, pad: Page) -> None:
        assert answer(pad) == "Draw a digit"
        assert set(bars(pad, "dropmax")) == {""}
        draw(pad, [[(0.3, 0.5), (0.31, 0.5)]])
        assert answer(pad) == "Draw a digit"
        draw(pad, STROKES[0])
        assert answer(pad) != "Draw a digit"
        pad.get_by_role("button", name="Clear").click()
        assert answer(pad) == "Draw a digit"
        assert set(bars(pad, "dropmax")) == {""}

    def test_undo_takes_back_a_stroke(self, pad: Page) -> None:
        draw(pad, STROKES[7])
        before = bars(pad, "logits")
        draw(pad, [[(0.1, 0.9), (0.5, 0.9), (0.5, 0.2)]])
        assert bars(pad, "logits") != before
        pad.get_by_role("button", name="Undo").click()
        assert bars(pad, "logits") == before

    def test_says_that_it_is_not_sure(self, pad: Page) -> None:
        draw(pad, STROKES[3])
        pad.evaluate("say({ dropmax: [0.4, 0.35, 0.25], logits: [0.2, 0.5, 0.3] })")
        assert answer(pad) == "Not sure"
        rows = pad.locator(".says tbody tr").all_inner_texts()
        assert "0 or 1?" in rows[0]
        assert "1 (50\xa0%)" in rows[1]

    def test_keyboard_alone_suffices(self, pad: Page) -> None:
        pad.keyboard.press("Tab")
        while pad.evaluate("document.activeElement.id") != "pad":
            pad.keyboard.press("Tab")
        # A seven: along the top, and down to the left.
        across, down = "ArrowRight " * 7, "ArrowDown ArrowDown ArrowLeft " * 4 + "ArrowDown " * 2
        press_keys(pad, f"{'ArrowLeft ' * 3} Space {across} {down} Space")
        assert answer(pad) == "7"
        assert said(pad).startswith("Pen up. 7. DropMax: 7")
        press_keys(pad, "ArrowLeft ArrowLeft")
        assert answer(pad) == "7"
        pad.keyboard.press("u")
        assert answer(pad) == "Draw a digit"
        press_keys(pad, f"{'ArrowUp ' * 10} Space {'ArrowDown ' * 9} Enter c")
        assert answer(pad) == "Draw a digit"
        # What has the focus shows it.
        assert pad.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


class TestClasses:
    def test_a_class_that_is_pressed_leaves_and_comes_back(self, pad: Page) -> None:
        draw(pad, STROKES[7])
        before = {kind: bars(pad, kind) for kind in ("logits", "dropmax")}
        button = pad.get_by_role("button", name="Drop 7")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        without = answer(pad)
        assert without != "7"
        assert said(pad).startswith("7 is dropped.")
        assert bars(pad, "dropmax")[7] == ""
        shown = pad.evaluate("predictionsOf(withoutDropped(heads, dropped))")
        assert shown["dropmax"][7] == shown["logits"][7] == 0
        assert sum(shown["dropmax"]) == pytest.approx(1)
        button.focus()
        pad.keyboard.press("Space")
        assert answer(pad) == "7"
        assert {kind: bars(pad, kind) for kind in before} == before

    def test_all_classes_can_be_dropped_and_brought_back(self, pad: Page) -> None:
        draw(pad, STROKES[7])
        for button in pad.locator("#classes button").all():
            button.click()
        assert answer(pad) == "All classes are dropped"
        pad.get_by_role("button", name="Bring all classes back").click()
        assert answer(pad) == "7"

    def test_masks_are_sampled_one_by_one(self, pad: Page) -> None:
        count, cells = pad.locator("#count"), pad.locator("#masks tr").nth(7).locator(".cell")
        one = pad.get_by_role("button", name="One mask")
        expect(one).to_be_disabled()
        draw(pad, STROKES[7])
        # Motion is unwelcome here.
        pad.wait_for_timeout(400)
        expect(count).to_have_text("0 masks")
        one.click()
        one.click()
        expect(count).to_have_text("2 masks")
        expect(cells).to_have_count(2)
        expect(pad.locator(".cells .chosen")).to_have_count(2)
        pad.get_by_role("button", name="Play").click()
        expect(count).not_to_have_text("2 masks")
        pad.get_by_role("button", name="Pause").click()
        shown = count.inner_text()
        pad.wait_for_timeout(400)
        expect(count).to_have_text(shown)
        assert pad.locator("#mean").inner_text() == f"Mean of {shown}"

    def test_masks_come_by_themselves_where_motion_is_welcome(
        self, page: Page, learned: TrainedRun, tmp_path: Path
    ) -> None:
        open_page(page, learned, tmp_path)
        draw(page, STROKES[7])
        expect(page.locator("#count")).not_to_have_text("0 masks")
        expect(page.locator(".cells .chosen").nth(2)).to_be_attached()


class TestLooks:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_is_accessible_in_every_state(self, pad: Page, scheme: Any) -> None:
        pad.emulate_media(color_scheme=scheme)
        assert_accessible(pad)
        draw(pad, STROKES[3])
        pad.get_by_role("button", name="Drop 3").click()
        pad.get_by_role("button", name="One mask").click()
        pad.locator("summary").click()
        assert_accessible(pad)

    @pytest.mark.parametrize("num_classes", [10, 62, 561])
    def test_fits_on_a_phone_with_many_classes_too(
        self, page: Page, num_classes: int, tmp_path: Path
    ) -> None:
        page.emulate_media(reduced_motion="reduce")
        page.set_viewport_size({"width": 360, "height": 740})
        names = CHARACTERS[:num_classes]
        open_page(page, untrained(tmp_path, dataset="glyphs:561", class_names=names), tmp_path)
        draw(page, STROKES[4], height=0.5, top=0.2)
        rows = page.locator("#classes tr")
        expect(rows).to_have_count(min(num_classes, 12))
        rows.nth(2).get_by_role("button").click()
        page.get_by_role("button", name="One mask").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator("#masks tr").count() == rows.count()
        assert_accessible(page)

    def test_of_many_classes_the_most_probable_and_most_retained_are_shown(self, pad: Page) -> None:
        rng = np.random.default_rng(0)
        dropmax, retained = rng.random((2, 50))
        predictions = {"dropmax": dropmax.tolist(), "retained": retained.tolist()}
        shown = pad.evaluate(
            "(predictions) => classesToShow(50, predictions, new Set([5]))", predictions
        )
        assert {*np.argsort(-dropmax)[:8]} | {int(retained.argmax()), 5} <= {*shown}
        assert shown[-1] == 5
        assert len(set(shown)) == len(shown) <= 13

    def test_names_of_classes_and_runs_are_text(self, page: Page, tmp_path: Path) -> None:
        model = untrained(tmp_path / EVIL.replace("/", ""), class_names=(EVIL, "b"))
        open_page(page, model, tmp_path)
        assert "<script>alert(1)<script>" in page.title()
        draw(page, STROKES[4])
        assert page.locator("#classes button").first.inner_text() == EVIL
        assert page.evaluate("document.scripts.length") == 2
