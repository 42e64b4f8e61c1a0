"""The notebook does what it shows."""

import importlib
import json
import re
import shlex
import sys
import types
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from tests.experiments.runner import run_here

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "dropmax.ipynb"
# One epoch, of images that need no download.
SHORT = ["--dataset=mnist_5k", "--num_epochs=1"]


def run_command(capfd: pytest.CaptureFixture[str], line: str) -> None:
    """Runs `!python -m experiments...`."""
    name, *arguments = shlex.split(line.removeprefix("!python -m "))
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
    arguments += SHORT if name == "experiments.mnist" else []
    outcome = run_here(capfd, *arguments, module=module)
    assert outcome.code == 0, outcome.stderr


def test_its_cells_run_and_dropmax_learns(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(cell["outputs"] == [] for cell in cells if cell["cell_type"] == "code")
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    # This stands for IPython, which only a notebook needs.
    display: Any = types.ModuleType("IPython.display")
    shown: list[str] = []
    display.Image, display.HTML, display.display = Path, str, shown.append
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            for line in cell["source"]:
                if line.startswith("!python"):
                    run_command(capfd, line)
            program = "".join(line for line in cell["source"] if line[0] not in "!%")
            # A third of the steps is enough to learn.
            exec(program.replace("num_steps=1000", "num_steps=300"), names)
    *pictures, page = shown
    assert len(pictures) == 2
    assert all(Path(picture).is_file() for picture in pictures)
    assert page.startswith("<iframe srcdoc")
    assert names["errors"]["dropmax"] < 15
    assert names["errors"]["softmax"] < 15
    assert names["average"].shape == (10, 10)


def test_one_replacement_gives_its_badge_and_the_package_their_address() -> None:
    address = r"github(?:\.com)?/([\w.-]+/[\w.-]+)"
    texts = [file.read_text(encoding="utf-8") for file in (NOTEBOOK, ROOT / "pyproject.toml")]
    in_notebook, in_package = (re.findall(address, text) for text in texts)
    assert len(in_notebook) == 2
    assert len(in_package) == 1
    assert {*in_notebook} == {*in_package}
