"""Formulas as MathML, which browsers show without a script, a font or the network."""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

_FUNCTION = r"<mi>\w{2,}</mi>"
_SPACE = '<mspace width="0.167em" />'


def mathml(latex: str, display: str = "inline") -> str:
    """MathML of a formula, with TeX's narrow spaces around the names of functions."""
    found = re.sub(r"<mo>(\w{2,})</mo>", r"<mi>\1</mi>", convert(latex, display=display))
    found = re.sub(rf"(</(?:mi|mn|mfrac|msub|munder)>)(?={_FUNCTION})", rf"\1{_SPACE}", found)
    # None before a bracket, and none between a name and its index.
    return re.sub(
        rf"(?<!<msub>)(?<!<msup>)({_FUNCTION})(?!<mo[^>]*>&#x00028;)", rf"\1{_SPACE}", found
    )


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    # The keyboard scrolls a formula that is wider than the screen.
    self.body.append(f'<div class="math" tabindex="0">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Names the renderer `mathml`, for `html_math_renderer`."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
