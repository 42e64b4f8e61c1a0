"""The table of faults names tests that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_test_that_the_table_names_exists() -> None:
    table = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[^`]*::[^`]*)`", table)
    assert len(named) > 60
    for name in named:
        file, *parts = name.split("::")
        body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
        for part in parts:
            found = [
                node
                for node in body
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part
            ]
            assert found, f"{name}: there is no {part}"
            body = found[0].body


def test_every_row_names_a_test() -> None:
    lines = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    rows = [row for row in rows if row not in {"| fault | what happens | test |", "|---|---|---|"}]
    assert len(rows) > 40
    for row in rows:
        assert "::test_" in row, row
