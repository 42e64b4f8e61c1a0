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
ADD = re.compile(
    r"^In `([^`]+)`, below `([^`]+)`, add\b[^`]*:\n\n```text\n(.*?)```$",
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
    written, added = WRITE.findall(TEXT), ADD.findall(TEXT)
    assert len(written) + len(added) == len(re.findall("```(?:python|text)", TEXT))
    for name, content in written:
        assert not (folder / name).exists()
        (folder / name).write_text(content, encoding="utf-8")
    for name, anchor, addition in added:
        content = (folder / name).read_text(encoding="utf-8")
        assert content.count(f"{anchor}\n") == 1, anchor
        changed = content.replace(f"{anchor}\n", f"{anchor}\n{addition}")
        (folder / name).write_text(changed, encoding="utf-8")
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
    command = ("experiments.mnist", "--savedir=run", "--num_epochs=6", "--train_per_class=50")
    choices = ("--model=focal", "--network=mlp", "--dataset=stripes")
    own = ("--hyperparameters=gamma=1", "--dropout_rate=0.2")
    assert "focal, mlp, stripes" in run(changed, *command, *choices, *own)
    config = json.loads((changed / "run" / "config.json").read_text(encoding="utf-8"))
    assert config["dropout_rate"] == 0.2
    assert config["settings"] == {"gamma": 1.0}
    summary = json.loads((changed / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["test_error_percent"][0] < 50
    # The run keeps what no flag changes.
    assert "focal, mlp, stripes" in run(changed, "experiments.mnist", "--savedir=run", "--resume")


def test_the_tests_of_methods_pass_for_the_method(changed: Path) -> None:
    files = ("tests/dropmax_jax/test_fuzz_methods.py", "tests/dropmax_jax/methods/test_table.py")
    assert " passed" in run(changed, "pytest", "-n", "0", "-k", "focal", *files)


def test_ruff_finds_nothing(changed: Path) -> None:
    names = [name for name, _ in WRITE.findall(TEXT)]
    assert "All checks passed" in run(changed, "ruff", "check", *names)
    run(changed, "ruff", "format", "--check", *names)
