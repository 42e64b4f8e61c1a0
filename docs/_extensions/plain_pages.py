"""Makes a site of pages that are plain Markdown, so that a code host shows them well too.

- The table of contents comes from `contents` in conf.py.
- Links to files outside docs/ lead to the repository, or are plain text while it has no address.
- Names of the package's functions in code lead to the API reference.
"""

import re
from pathlib import Path
from typing import Any

import jax.typing
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import stringify_annotation

_OUTSIDE = re.compile(r"\[([^]]+)\]\(((?:\.\./)+[^)#]+)((?:#[^)]*)?)\)")
_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


def _prepare(app: Sphinx, page: str, source: list[str]) -> None:
    docs = Path(app.srcdir)

    def link(match: re.Match[str]) -> str:
        text, path, anchor = match.groups()
        file = (docs / page).parent.joinpath(path).resolve()
        if file.is_relative_to(docs):
            return match[0]
        if not file.exists():
            raise ValueError(f"{page} links to {path}, which does not exist")
        if not app.config.repository:
            return text
        place = file.relative_to(docs.parent).as_posix()
        return f"[{text}]({app.config.repository}/blob/HEAD/{place}{anchor})"

    lines = [_OUTSIDE.sub(link, source[0])]
    for caption, pages in app.config.contents.get(page, {}).items():
        # A page that is missing here is reported where it is linked to, and one that is missing
        # in the contents by Sphinx.
        there = [f"/{name}" for name in pages if any(docs.glob(f"{name}.*"))]
        titled = [f":caption: {caption}"] if caption else []
        lines += ["", "```{toctree}", ":hidden:", *titled, "", *there, "```"]
    source[0] = "\n".join(lines)


def _link_names(app: Sphinx, tree: nodes.document) -> None:
    for literal in list(tree.findall(nodes.literal)):
        name = literal.astext()
        is_linked = isinstance(literal.parent, nodes.reference | pending_xref)
        if _NAME.fullmatch(name) and not is_linked:
            page = app.env.docname
            node = pending_xref("", refdomain="py", reftype="obj", reftarget=name, refdoc=page)
            node["refexplicit"] = False
            literal.replace_self(node)
            node += literal


def _find(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element
) -> nodes.Element | None:
    """The reference to a name of `dropmax_jax` that is written without it."""
    if node["refdomain"] != "py":
        return None
    name = f"dropmax_jax.{node['reftarget']}"
    domain = env.domains.python_domain
    if name not in domain.objects or domain.objects[name].objtype == "module":
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, text)


def _shorten(app: Sphinx, what: str, name: str, found: Any, options: Any, *texts: Any) -> Any:
    """Signatures with the names of JAX's types, instead of the many types that they stand for."""
    for alias in ("ArrayLike", "DTypeLike"):
        long = stringify_annotation(getattr(jax.typing, alias), mode="smart")
        texts = tuple(text and text.replace(long, alias) for text in texts)
    return texts


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects the above."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_config_value("repository", "", "env", str)
    app.add_config_value("contents", {}, "env", dict)
    app.connect("source-read", _prepare)
    app.connect("doctree-read", _link_names)
    app.connect("missing-reference", _find)
    app.connect("autodoc-process-signature", _shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
