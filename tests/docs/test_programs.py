"""The programs of all pages run, and their commands have the flags that they are given."""

import importlib
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from tests.docs.pages import DOCS, PAGES, README, blocks, name_of

# What other tests run: in parts, on a trained run, or in a copy of the project.
ELSEWHERE = {
    *(f"docs/recipes/{name}.md" for name in ("equinox", "haiku", "linen", "nnx")),
    "docs/recipes/language_model.md",
    "docs/own_digits.md",
    "CONTRIBUTING.md",
}
PROGRAMS = [page for page in PAGES if blocks(page, "python") and name_of(page) not in ELSEWHERE]
COMMAND = re.compile(r"-m ((?:experiments|benchmarks)\.\w+)((?:\s+[^\s&|;#]+)*)")


def run(program: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    names = {"__name__": "page"} if names is None else names
    exec(program, names)
    return names


def check_probabilities(log_probs: Any) -> None:
    np.testing.assert_allclose(jnp.exp(log_probs).sum(axis=-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("page", PROGRAMS, ids=name_of)
def test_a_pages_programs_run_one_after_the_other(page: Path) -> None:
    names: dict[str, Any] | None = None
    for program in blocks(page, "python"):
        names = run(program, names)
        if "log_probs" in names:
            check_probabilities(names.pop("log_probs"))


def test_there_are_programs_in_recipes_on_the_start_page_and_in_the_readme() -> None:
    assert {README, DOCS / "index.md"} < {*PROGRAMS}
    assert sum(page.parent.name == "recipes" for page in PROGRAMS) > 6


def commands(page: Path) -> list[tuple[str, str]]:
    """Modules and what follows them, from the shell blocks and the code in the text."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = "\n".join(fenced).replace("\\\n", " ").splitlines()
    rest = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest)]
    return [found for line in (*lines, *spans) for found in COMMAND.findall(line)]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_commands_exist_and_take_the_flags_and_values_that_pages_give_them(page: Path) -> None:
    for name, arguments in commands(page):
        if name == "experiments.NAME":
            continue
        module = importlib.import_module(name)
        if hasattr(module, "__path__"):
            module = importlib.import_module(f"{name}.__main__")
        for flag, has_value, value in re.findall(r"--(\w+)(=?)(\S*)", arguments):
            if flag == "help":
                continue
            assert flag in module.FLAGS.values, f"{name} has no --{flag}"
            # Capitals stand for a value of the reader's.
            if has_value and not re.fullmatch(r"[A-Z]+", value):
                module.FLAGS.values[flag].parser.parse(value.strip("'\""))


def test_pages_name_many_commands() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 60
