"""The recipes of CONTRIBUTING, followed as they are written."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
WRITE = re.compile(r"^Write `([^`]+)`:\n\n```python\n(.*?)```$", re.DOTALL | re.MULTILINE)
EDIT = re.compile(
    r"^In `([^`]+)`, (below|replace) `([^`]+)`(?:, add| by)\b[^`]*:\n\n```text\n(.*?)```$",
    re.DOTALL | re.MULTILINE,
)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which all recipes have been followed."""
    folder = tmp_path_factory.mktemp("contributing")
    for name in ("dropmax_jax", "experiments", "tests"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    written, edits = WRITE.findall(TEXT), EDIT.findall(TEXT)
    assert len(written) + len(edits) == len(re.findall("```(?:python|text)", TEXT))
    for name, content in written:
        assert not (folder / name).exists()
        (folder / name).write_text(content, encoding="utf-8")
    for name, place, anchor, lines in edits:
        content = (folder / name).read_text(encoding="utf-8")
        assert content.count(f"{anchor}\n") == 1, anchor
        new = lines if place == "replace" else f"{anchor}\n{lines}"
        (folder / name).write_text(content.replace(f"{anchor}\n", new), encoding="utf-8")
    return folder


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_method_the_network_the_data_and_the_flag_train_together(changed: Path) -> None:
    command = ("experiments.images", "--savedir=run", "--num_epochs=6", "--train_per_class=50")
    choices = ("--model=confidence_penalty", "--network=mlp", "--dataset=stripes")
    own = ("--hyperparameters=strength=0.5", "--clip_norm=0.2")
    assert "confidence_penalty, mlp, stripes" in run(changed, *command, *choices, *own)
    config = json.loads((changed / "run" / "config.json").read_text(encoding="utf-8"))
    assert config["clip_norm"] == 0.2
    assert config["settings"] == {"strength": 0.5}
    summary = json.loads((changed / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["test_error_percent"][0] < 50
    # The run keeps what no flag changes.
    assert "mlp, stripes" in run(changed, "experiments.images", "--savedir=run", "--resume")


@pytest.mark.slow
def test_the_tests_pass_for_the_method(changed: Path) -> None:
    arguments = (
        "-n",
        "0",
        "-k",
        "confidence_penalty",
        "tests/dropmax_jax",
        "tests/experiments/cli",
    )
    assert " passed" in run(changed, "pytest", *arguments, "dropmax_jax/methods")


def test_ruff_finds_nothing(changed: Path) -> None:
    pytest.importorskip("ruff")  # .ci/lowest goes without.
    assert "All checks passed" in run(changed, "ruff", "check", "dropmax_jax", "experiments")
    run(changed, "ruff", "format", "--check", "dropmax_jax", "experiments")
