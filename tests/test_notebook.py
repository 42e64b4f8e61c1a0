"""The notebook does what it shows, except for its shell commands."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import matplotlib
import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "dropmax.ipynb"


def test_its_cells_run_and_dropmax_learns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(cell["outputs"] == [] for cell in cells if cell["cell_type"] == "code")
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    # This stands for IPython, which only a notebook needs.
    display: Any = types.ModuleType("IPython.display")
    display.Image = display.display = print
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            lines = [line for line in cell["source"] if line[0] not in "!%"]
            # A third of the steps is enough to learn.
            exec("".join(lines).replace("num_steps=1000", "num_steps=300"), names)
    assert names["errors"]["dropmax"] < 15
    assert names["errors"]["softmax"] < 15
    assert names["average"].shape == (10, 10)
