"""People read and search the site of the documentation, without a network or a mouse."""

from typing import Literal

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from tests.browser.conftest import assert_accessible
from tests.docs.pages import DOCS
from tests.docs.site import built

DESKTOP = ViewportSize(width=1280, height=900)
PHONE = ViewportSize(width=390, height=844)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    return built(tmp_path_factory).as_uri()


def test_a_search_finds_the_function_and_leads_to_it(page: Page, site: str) -> None:
    page.goto(f"{site}/index.html")
    page.get_by_role("textbox", name="Search").fill("dropmax_loss")
    page.keyboard.press("Enter")
    # Until then, lines above the results come and go, and move them.
    expect(page.get_by_text("Search finished")).to_be_visible()
    page.locator("#search-results a").first.click()
    expect(page).to_have_url(f"{site}/api/loss.html#dropmax_jax.dropmax_loss")
    expect(page.locator("#dropmax_jax\\.dropmax_loss")).to_be_in_viewport()


def test_the_keyboard_alone_searches_and_follows_a_result(page: Page, site: str) -> None:
    page.goto(f"{site}/method.html")
    page.keyboard.press("/")
    expect(page.get_by_role("textbox", name="Search")).to_be_focused()
    page.keyboard.type("elbo")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Search finished")).to_be_visible()
    result = page.locator("#search-results a").first
    for _ in range(100):
        if result.evaluate("result => result === document.activeElement"):
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site}/api/loss.html#dropmax_jax.elbo")


def test_formulas_are_drawn(page: Page, site: str) -> None:
    for name in ("method", "many_classes", "api/loss", "api/methods"):
        page.goto(f"{site}/{name}.html")
        boxes = page.eval_on_selector_all(
            "math",
            "formulas => formulas.map(formula => formula.getBoundingClientRect())"
            ".map(box => [box.width, box.height])",
        )
        assert boxes
        assert all(width > 4 and height > 4 for width, height in boxes)
        assert page.locator("merror").count() == 0


@pytest.mark.parametrize(("scheme", "size"), [("light", DESKTOP), ("dark", PHONE)])
@pytest.mark.parametrize(
    "name", ["index", "method", "comparison", "api/loss", "search.html?q=dropmax_loss"]
)
def test_pages_are_accessible(
    page: Page, site: str, name: str, scheme: Literal["light", "dark"], size: ViewportSize
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(size)
    page.goto(f"{site}/{name if '?' in name else f'{name}.html'}")
    if "?" in name:
        expect(page.locator("#search-results a").first).to_be_visible()
    assert_accessible(page)


def test_no_page_is_wider_than_a_phone(page: Page, site: str) -> None:
    page.set_viewport_size(PHONE)
    for path in sorted([*DOCS.rglob("*.md"), *DOCS.rglob("*.rst")]):
        page.goto(f"{site}/{path.relative_to(DOCS).with_suffix('.html').as_posix()}")
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], path
