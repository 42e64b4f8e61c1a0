"""The recipes' diffs lead from a softmax classifier to DropMax, and the language model learns."""

import re
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.test_programs import check_probabilities, run

FOLDER = DOCS / "recipes"
PAGES = sorted(page.name for page in FOLDER.glob("*.md") if page.name != "README.md")
FRAMEWORKS = ["equinox.md", "haiku.md", "linen.md", "nnx.md"]


def check_learns(names: dict[str, Any]) -> None:
    losses = np.asarray(names["losses"])
    assert np.all(np.isfinite(losses))
    assert losses[-5:].mean() < losses[:5].mean() - 0.3
    assert names["log_probs"].shape == (200, 4)
    check_probabilities(names["log_probs"])
    assert jnp.mean(jnp.argmax(names["log_probs"], axis=-1) == names["labels"]) > 0.8


def undone(program: str, diff: str) -> str:
    """The program before the diff."""
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        before, after = (
            "".join(line[1:] for line in lines if line[0] != other) for other in ("+", "-")
        )
        assert program.count(after) == 1, after
        program = program.replace(after, before)
    return program


@pytest.mark.slow
def test_the_language_model_learns() -> None:
    (program,) = blocks(FOLDER / "language_model.md", "python")
    for whole, part in (
        (
            "STEPS, SEEDS, WIDTH, RANK = 600, 3, 128, 32",
            "STEPS, SEEDS, WIDTH, RANK = 120, 1, 32, 8",
        ),
        ("topics.values()", "list(topics.values())[:20]"),
        ("(512,)", "(128,)"),
        ("2e-3", "5e-3"),
        ("(~is_test, is_test)", "(~is_test, ~is_test)"),  # too few words to know others
    ):
        assert whole in program
        program = program.replace(whole, part)
    names = run(program)
    counts = 1 + np.bincount(names["train"][1], minlength=len(names["vocabulary"]))
    frequencies = (counts / counts.sum())[names["test"][1]]
    without_context = np.exp(-np.log(frequencies).mean())
    for loss in ("softmax", "dropmax"):
        ((perplexity, _, _),) = names["found"][loss]
        assert 1 < perplexity < 0.7 * without_context


@pytest.mark.parametrize("page", FRAMEWORKS)
def test_the_classifier_learns_with_dropmax_and_before_the_diff_with_a_softmax(page: str) -> None:
    (program,), (diff,) = blocks(FOLDER / page, "python"), blocks(FOLDER / page, "diff")
    softmax = undone(program, diff)
    assert "dropmax" not in softmax.lower()
    check_learns(run(softmax))
    check_learns(run(program))


@pytest.mark.parametrize("page", FRAMEWORKS)
def test_a_diff_writes_ten_lines_at_most(page: str) -> None:
    (diff,) = blocks(FOLDER / page, "diff")
    assert len(re.findall(r"^\+", diff, re.MULTILINE)) <= 10


def test_the_list_has_every_page() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\(([^)]+)\)", text)) == PAGES
