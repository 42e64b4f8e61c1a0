"""The site is built without a warning, has every public name, and needs no network."""

import importlib
import inspect
import pkgutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from sphinx.util.inventory import InventoryFile

import dropmax_jax
from dropmax_jax import linear, methods, metrics
from tests.docs.pages import DOCS


class Page(HTMLParser):
    """What a page loads, where it links to, and what can be linked to; its formulas too."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.formulas = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.names.add(values.get("id", ""))
        self.formulas += tag == "math"
        if tag == "a":
            self.links.append(values.get("href", ""))
        elif tag == "link":
            self.loads.append(values.get("href", ""))
        else:
            self.loads.append(values.get("src", ""))


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def public_names() -> set[str]:
    modules = {"dropmax_jax": dropmax_jax, "dropmax_jax.metrics": metrics}
    names = {f"{name}.{member}" for name, module in modules.items() for member in module.__all__}
    names |= {f"dropmax_jax.{member}" for member in linear.__all__}
    names |= {f"dropmax_jax.{layer}.DropMaxHeads" for layer in ("linen", "nnx", "equinox", "haiku")}
    for info in pkgutil.iter_modules(methods.__path__, "dropmax_jax.methods."):
        module = importlib.import_module(info.name)
        names.add(info.name)
        names |= {
            f"{info.name}.{member}"
            for member, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == info.name and member[0] != "_"
        }
    return names


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    documented = {name for kind, names in inventory.items() if kind[:3] == "py:" for name in names}
    assert len(public_names()) > 60
    assert public_names() <= documented


def test_every_page_is_there_with_its_formulas(pages: dict[Path, Page], site: Path) -> None:
    for page in DOCS.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        found = pages[site / page.relative_to(DOCS).with_suffix(".html")]
        assert found.formulas >= text.count("$$") // 2, page
    assert pages[site / "method.html"].formulas > 20
    assert pages[site / "api" / "loss.html"].formulas > 5


def test_pages_load_nothing_from_the_network(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for address in page.loads:
            assert not urlsplit(address).netloc, (path, address)


def test_links_within_the_site_lead_somewhere(pages: dict[Path, Page]) -> None:
    count = 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), (path, link)
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].names, (path, link)
                count += 1
    assert count > 500
