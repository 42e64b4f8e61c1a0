"""Pages in Chromium, which may neither complain nor ask the network for anything."""

import os
import shutil
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from experiments.cli.errors import UserError

NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
# Sandboxes need rights that containers lack; the rest keeps the browser from its maker's servers.
ARGUMENTS = [
    *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def chromium() -> str:
    """Where it is.

    Raises:
        UserError: It is not there.
    """
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        raise UserError("no Chromium is installed; on Debian, `apt-get install chromium` brings it")
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        path = chromium()
    except UserError as error:
        pytest.skip(str(error))
    expect.set_options(timeout=30_000)  # Milliseconds: other tests keep the processor busy.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails its test if it logs an error or asks for what is no file of this disk."""
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(f"raised {error}"))
    page.on(
        "console",
        lambda message: (
            complaints.append(f"logged {message.text}")
            if message.type in ("error", "warning")
            else None
        ),
    )
    page.on(
        "request",
        lambda request: (
            complaints.append(f"asked for {request.url}")
            if not request.url.startswith(("file:", "data:", "blob:"))
            else None
        ),
    )
    yield page
    context.close()
    assert not complaints


def assert_accessible(page: Page) -> None:
    """Checks contrast, names and roles, among others, in the state that the page is in."""
    # Not preloaded: axe would fetch the page's style sheets, which fails for files on disk.
    results = Axe().run(page, options={"preload": False})
    assert results.violations_count == 0, results.generate_report()
