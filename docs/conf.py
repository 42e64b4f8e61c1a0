"""How Sphinx makes the site of these pages: `python -m sphinx -W docs site`."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# For autodoc, where the package is not installed, and for what is ours below.
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_extensions")]

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = html_title = "DropMax for JAX"
version = release = _PROJECT["version"]
extensions = [
    "accessible",
    "mathml",
    "myst_parser",
    "plain_pages",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]

# The address of the code is said once, as `Repository` in pyproject's `[project.urls]`. Without it
# the site shows no links there.
repository = _PROJECT.get("urls", {}).get("Repository", "").rstrip("/")

# The pages below a page, by headings of the sidebar.
contents = {
    "index": {
        "The method": ["method", "questions", "comparison"],
        "In your model": ["recipes/README", "performance"],
        "The paper's experiment": ["command", "results", "figures", "report", "faults"],
        "Many classes": ["many_classes"],
        "Images": ["data", "own_digits", "sketchpad", "cifar"],
        "Many devices": ["scaling", "gpus", "tpu", "slurm", "colab"],
        "Reference": ["api/index"],
    },
    "recipes/README": {
        "": [
            "recipes/linen",
            "recipes/nnx",
            "recipes/equinox",
            "recipes/haiku",
            "recipes/from_softmax",
            "recipes/soft_labels",
            "recipes/padding",
            "recipes/sequences",
            "recipes/language_model",
            "recipes/meshes",
            "recipes/kl_warm_up",
            "recipes/uncertainty",
        ]
    },
}

myst_enable_extensions = ["dollarmath"]
# A line that begins with % is text, as on code hosts.
myst_disable_syntax = ["myst_line_comment"]
myst_heading_anchors = 3

# Docstrings name functions and arrays in single backticks. Only the project's own must be there.
default_role = "py:obj"
nitpick_ignore_regex = [("py:.*", r"(?!dropmax_jax\.).*|.*\._.*")]
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
# Signatures have the types.
napoleon_attr_annotations = False
napoleon_use_rtype = False

html_theme = "furo"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
# Browsers fetch no summaries from files on disk.
html_show_search_summary = False
if repository:
    html_theme_options = {
        "source_repository": repository,
        "source_branch": "main",
        "source_directory": "docs/",
    }
