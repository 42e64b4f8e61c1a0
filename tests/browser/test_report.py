"""The report in a browser: sorted, filtered, unfolded, printed, and usable by all."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from experiments.many_classes import report as many_classes
from experiments.many_classes.comparison import FIGURES, METHODS, Row
from tests.browser.conftest import assert_accessible
from tests.experiments.report.made import SVG, config_of, make_run
from tests.experiments.runner import ROOT

SCRIPT = "<script>alert(1)<|script>"
NAMES = ["run_1", "run_2", "run_10", "run_11", "run_12"]
ERRORS = [5.0, 10.25, 4.0, 5.0, 9.5]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of ten runs, one of them unfinished, of a damaged one and a comparison."""
    folder = tmp_path_factory.mktemp("report") / "results"
    for name, error in zip(NAMES, ERRORS, strict=True):
        make_run(folder / name, config_of("softmax", num_epochs=2), error)
    make_run(folder / "seeds", config_of(seeds=(0, 1, 2), mnist_path="/it's here"), 7.0)
    make_run(folder / "unfinished", config_of(num_epochs=9), num_epochs=4)
    make_run(folder / SCRIPT)
    make_run(folder / f"long_{'name' * 40}")
    make_run(folder / "wide" / "below")
    (folder / "seeds" / "masks.svg").write_bytes(SVG)
    shutil.copytree(folder / "run_1", folder / "damaged")
    (folder / "damaged" / "config.json").write_text("{")
    tests = {"unseen faces": {name: [10.0, 11.5] for name in FIGURES}}
    rows = [Row("glyphs:62", 62, 60, name, 0.5, tests, 60.0, {}) for name in METHODS]
    many_classes_folder = folder / "many_classes"
    make_run(many_classes_folder / "60_epochs" / "softmax,dropout_rate=0")
    many_classes.write(rows, many_classes_folder)
    make_report(folder)
    return folder / "report.html"


def make_report(folder: Path) -> None:
    command = [sys.executable, "-m", "experiments.report", f"--results={folder}"]
    subprocess.run(command, cwd=ROOT, check=True)


@pytest.fixture
def opened(page: Page, report: Path) -> Page:
    page.goto(report.as_uri())
    return page


def column(page: Page, number: int) -> list[str]:
    cells: list[str] = page.locator("#runs > .table tbody tr").evaluate_all(
        "(rows, number) => rows.filter((row) => !row.hidden)"
        ".map((row) => row.cells[number].innerText)",
        number,
    )
    return cells


def header(page: Page, name: str) -> Any:
    return page.locator("#runs > .table").get_by_role("button", name=name)


def test_numbers_sort_as_numbers_and_equal_rows_keep_their_order(opened: Page) -> None:
    before = column(opened, 0)
    assert [name for name in before if name in NAMES] == NAMES
    header(opened, "test error").click()
    head = opened.get_by_role("columnheader", name="test error").first
    expect(head).to_have_attribute("aria-sort", "ascending")
    found = column(opened, 7)
    assert found[-1] == ""  # of the unfinished run
    values = [float(text.partition(" ")[0]) for text in found[:-1]]
    assert values == sorted(values)
    assert values[-1] == 10.25
    order = column(opened, 0)
    assert order.index("run_1") < order.index("run_11")
    header(opened, "test error").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    found = column(opened, 7)
    assert found[-1] == ""
    assert [float(text.partition(" ")[0]) for text in found[:-1]] == values[::-1]
    order = column(opened, 0)
    assert order.index("run_1") < order.index("run_11")
    header(opened, "network").click()
    assert opened.locator("#runs > .table [aria-sort]").count() == 1


def test_a_keyboard_sorts_and_names_sort_by_their_numbers(opened: Page) -> None:
    opened.keyboard.press("Tab")
    focused = "document.activeElement.textContent"
    for _ in range(60):
        if opened.evaluate(focused).startswith("run"):
            break
        opened.keyboard.press("Tab")
    assert opened.evaluate(focused) == "run"
    opened.keyboard.press("Enter")
    names = column(opened, 0)
    opened.keyboard.press("Space")
    assert column(opened, 0) == names[::-1]
    assert [name for name in names if name in NAMES] == NAMES


def test_a_keyboard_reaches_the_section_of_a_run(opened: Page) -> None:
    link = opened.locator("#runs > .table").get_by_role("link", name="seeds")
    link.focus()
    opened.keyboard.press("Enter")
    section = opened.locator("details.run", has=opened.locator("summary bdi", has_text="seeds"))
    expect(section).to_have_attribute("open", "")
    expect(section.locator("> summary")).to_be_focused()
    expect(section.get_by_role("term").filter(has_text="mnist_path")).to_be_visible()
    opened.keyboard.press("Enter")
    assert section.get_attribute("open") is None


def test_a_link_into_a_folded_comparison_unfolds_it(page: Page, report: Path) -> None:
    page.goto(report.as_uri())
    run = page.locator("details.runs details.run").first
    assert not run.is_visible()
    page.goto(f"{report.as_uri()}#{run.get_attribute('id')}")
    expect(run.get_by_role("heading", name="Configuration")).to_be_visible()


def test_the_filter_leaves_rows_with_all_words(opened: Page) -> None:
    box = opened.locator("#runs").get_by_role("searchbox")
    box.fill("softmax RUN_1")
    assert column(opened, 0) == ["run_1", "run_10", "run_11", "run_12"]
    expect(opened.locator("#runs output")).to_have_text("4 of 10")
    header(opened, "test error").click()
    assert column(opened, 0) == ["run_10", "run_1", "run_11", "run_12"]
    box.fill("")
    assert len(column(opened, 0)) == 10


def test_every_table_sorts(opened: Page) -> None:
    for table in opened.locator("table").all():
        assert table.locator("th button").count() == table.locator("th").count() > 0


def test_a_button_copies_the_command(browser: Browser, report: Path) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(report.as_uri())
    section = page.locator("details.run", has=page.locator("summary bdi", has_text="seeds"))
    section.locator("> summary").click()
    section.get_by_role("button", name="Copy").click()
    expect(section.get_by_text("Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    context.close()
    assert shlex.split(copied)[:-2] == [
        *("python", "-m", "experiments.mnist", "--model=dropmax", "--dataset=mnist"),
        "--mnist_path=/it's here",
    ]


def test_pictures_are_shown(opened: Page) -> None:
    section = opened.locator("details.run", has=opened.locator("summary bdi", has_text="seeds"))
    section.locator("> summary").click()
    assert section.locator("img").count() == 2
    for image in section.locator("img").all():
        image.evaluate("image => image.decode()")
        assert image.evaluate("image => image.naturalWidth") > 0
        assert image.get_attribute("alt")


def test_a_name_is_text(opened: Page) -> None:
    expect(opened.locator("#runs").get_by_role("link", name=SCRIPT)).to_be_visible()
    assert opened.locator("script").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("is_open", [False, True])
def test_is_accessible(opened: Page, scheme: Any, is_open: bool) -> None:
    opened.emulate_media(color_scheme=scheme)
    if is_open:
        opened.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        header(opened, "test error").click()
    assert_accessible(opened)


@pytest.mark.parametrize("is_open", [False, True])
def test_nothing_but_tables_scrolls_sideways_on_a_phone(opened: Page, is_open: bool) -> None:
    opened.set_viewport_size({"width": 360, "height": 640})
    if is_open:
        opened.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert opened.evaluate("document.documentElement.scrollWidth") == 360
    wide = opened.evaluate(
        "Array.from(document.querySelectorAll('body *:not(.table, .hidden, bdi)'))"
        ".filter((each) => !each.closest('.table') && each.getBoundingClientRect().right > 361)"
        ".map((each) => each.outerHTML.slice(0, 80))"
    )
    assert wide == []


def test_paper_shows_what_is_folded_and_no_controls(opened: Page) -> None:
    text = opened.locator("details.run").first.get_by_text("Configuration")
    assert not text.is_visible()
    opened.emulate_media(media="print")
    expect(text).to_be_visible()
    for control in opened.locator("button.copy, input, nav").all():
        assert not control.is_visible()
    opened.emulate_media(media="screen")
    expect(text).not_to_be_visible()


def test_is_read_without_scripts(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    expect(page.locator("#runs").get_by_role("link", name="run_10")).to_be_visible()
    page.locator("summary", has_text="run_10").click()
    expect(page.locator("details.run[open] .command")).to_be_visible()
    assert page.get_by_role("button").count() == 0
    context.close()


def test_two_hundred_runs_are_sorted(page: Page, tmp_path: Path) -> None:
    for number in range(200):
        config = config_of(seeds=(0, 1, 2), learning_rate=0.001 * (number + 1))
        make_run(tmp_path / f"run_{number}", config, 200.0 - number)
    make_report(tmp_path)
    page.goto((tmp_path / "report.html").as_uri())
    header(page, "test error").click()
    assert column(page, 0) == [f"run_{number}" for number in reversed(range(200))]
