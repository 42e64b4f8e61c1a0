"""Mends what Sphinx and its theme leave out for screen readers and keyboards."""

import re
from pathlib import Path

from sphinx.application import Sphinx

_MENDED = {
    # Headings have a level.
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    '\n<div id="search-results">': '\n<h1>Search</h1><div id="search-results">',
    # Two landmarks of one kind have names.
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="All pages">',
    '<aside class="toc-drawer': '<aside aria-label="This page" class="toc-drawer',
    # The keyboard scrolls what is wider than the screen.
    "<pre>": '<pre tabindex="0">',
    '<div class="table-wrapper': '<div tabindex="0" class="table-wrapper',
}
# The arguments of a signature, which Sphinx writes as definitions of no term.
_ARGUMENTS = re.compile(r'(<span class="sig-paren">\(</span>\s*)<dl>(.*?)</dl>', re.DOTALL)


def _divisions(match: re.Match[str]) -> str:
    lines = match[2].replace("<dd>", '<div class="argument">').replace("</dd>", "</div>")
    return f"{match[1]}<div>{lines}</div>"


def _mend(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        mended = _ARGUMENTS.sub(_divisions, text)
        for old, new in _MENDED.items():
            mended = mended.replace(old, new)
        # Pages that are not written anew are mended already.
        if mended != text:
            page.write_text(mended, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Mends the pages when they are written."""
    app.connect("build-finished", _mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
