"""The tables that other commands write, read back from their CSV and Markdown files."""

import csv
import math
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from experiments.cli.errors import UserError
from experiments.report.figures import Figure
from experiments.report.left_out import LeftOut, checked, reason_of
from experiments.report.runs import Run
from experiments.reports.tables import cells_of

COMMANDS = {
    "table": "experiments.table",
    "calibration": "experiments.calibration",
    "detection": "experiments.calibration",
    "many_classes": "experiments.many_classes",
    "course": "experiments.many_classes",
    "alternatives": "experiments.many_classes",
}
"""Which command writes the tables of this name."""
MOST_ROWS = 1000

_HALF_WIDTH = "_half_width"
# A number, also with what stands behind it after a space or a semicolon.
_NUMBER = re.compile(r"[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?(?=$|[ ;%])")


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: What it shows.
        value: The number by which it is sorted; NaN for a text.
        note: What it says beside.
        href: What it leads to.
    """

    text: str
    value: float = math.nan
    note: str = ""
    href: str = ""

    @property
    def key(self) -> str:
        """The number as JavaScript reads it, empty if there is none."""
        return "" if math.isnan(self.value) else repr(self.value).replace("inf", "Infinity")


class Table(NamedTuple):
    """A table: the names of its columns, and its rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def is_numeric(self, column: int) -> bool:
        """Whether the cells of a column are numbers, as far as they are not empty."""
        filled = [row[column] for row in self.rows if row[column].text]
        return bool(filled) and not any(math.isnan(cell.value) for cell in filled)


class Part(NamedTuple):
    """A part of a text: a heading, a paragraph, or a table."""

    kind: str
    text: str = ""
    table: Table = Table((), ())


class Report(NamedTuple):
    """What a command writes under one name: a text with tables, and the table of all figures."""

    title: str
    parts: Sequence[Part]
    all_figures: Table | None


class Comparison(NamedTuple):
    """A folder that a command which trains several runs has written.

    Attributes:
        folder: Its own.
        command: Which wrote it.
        reports: One for each name in `COMMANDS` that is there.
        figures: The pictures in the folder.
        runs: What was trained for it, below the folder.
    """

    folder: Path
    command: str
    reports: list[Report]
    figures: list[Figure]
    runs: list[Run]


def read_comparison(
    folder: Path, names: Sequence[str], results: Path, left_out: list[LeftOut]
) -> Comparison:
    """Reads the tables of a folder; notes in `left_out` what cannot be read.

    Args:
        folder: The folder.
        names: Of its files.
        results: The folder of all results.
        left_out: To be added to.
    """
    reports = []
    for name in COMMANDS:
        parts: Sequence[Part] = ()
        table = None
        for file in (folder / f"{name}.md", folder / f"{name}.csv"):
            if file.name not in names:
                continue
            try:
                text = checked(file, results).read_text(encoding="utf-8")
                if file.suffix == ".md":
                    parts = parts_of(text)
                else:
                    table = table_of(text)
                    if len(table.rows) > MOST_ROWS:
                        reason = (
                            f"it has {len(table.rows):,} rows, and the report shows {MOST_ROWS:,}"
                        )
                        left_out.append(LeftOut(file, reason))
                        table = table._replace(rows=table.rows[:MOST_ROWS])
            except OSError as error:
                left_out.append(LeftOut(file, f"it cannot be read: {reason_of(error)}"))
            except UserError as error:
                left_out.append(LeftOut(file, str(error)))
            except (ValueError, csv.Error) as error:
                left_out.append(LeftOut(file, f"it is damaged: {error}"))
        if parts or table:
            reports.append(Report(name.replace("_", " "), parts, table))
    command = next(COMMANDS[Path(name).stem] for name in names if is_of_command(name))
    return Comparison(folder, command, reports, [], [])


def is_of_command(name: str) -> bool:
    """Whether a folder with a file of this name is a command's.

    >>> is_of_command("table.csv"), is_of_command("table.md"), is_of_command("alternatives.md")
    (True, False, True)
    """
    # The alternatives alone have no CSV file, and texts of the other names may be any.
    path = Path(name)
    return (path.suffix == ".csv" and path.stem in COMMANDS) or name == "alternatives.md"


def parts_of(text: str) -> list[Part]:
    r"""The parts of Markdown as the commands write it.

    Example:
        >>> text = "Of digits.\n\n## One\n\n| a |\n| --- |\n| 1 |"
        >>> [part.kind for part in parts_of(text)]
        ['text', 'heading', 'table']

    Raises:
        ValueError: A row has more or fewer cells than its table has columns.
    """
    parts = []
    blocks = (list(lines) for filled, lines in groupby(text.splitlines(), bool) if filled)
    for block in blocks:
        if block[0].startswith("#"):
            parts.append(Part("heading", block[0].lstrip("# ")))
        elif block[0].startswith("| "):
            columns, _, *rows = map(cells_of, block)
            parts.append(
                Part("table", table=_table(columns, [list(map(cell_of, row)) for row in rows]))
            )
        else:
            parts.append(Part("text", " ".join(block)))
    return parts


def cell_of(text: str) -> Cell:
    """A cell of Markdown.

    >>> cell_of("3.50 ± 0.25").value, cell_of("`dropmax`").text
    (3.5, 'dropmax')
    """
    found = _NUMBER.match(text)
    if found is None:
        return Cell(text.replace("`", ""))
    return Cell(text, float(found[0].replace(",", "")))


def table_of(text: str) -> Table:
    r"""The table of CSV, with half widths beside their means.

    >>> table_of("method,nll,nll_half_width\nsoftmax,0.25,0.01").rows[0][1].text
    '0.25 ± 0.01'

    Raises:
        ValueError: A row has more or fewer cells than there are columns.
    """
    columns, *rows = csv.reader(text.splitlines())
    halves = {
        name.removesuffix(_HALF_WIDTH): name for name in columns if name.endswith(_HALF_WIDTH)
    }
    shown = [name for name in columns if name not in halves.values()]
    found = []
    for row in rows:
        values = dict(zip(columns, row, strict=True))
        found.append(
            [_number(values[name], values.get(halves.get(name, ""), "")) for name in shown]
        )
    return _table([name.replace("_percent", ", %").replace("_", " ") for name in shown], found)


def _number(text: str, half_width: str) -> Cell:
    try:
        value = float(text)
    except ValueError:
        return Cell(text)
    if math.isnan(value):
        return Cell("")
    shown = f"{value:.4g}" if "." in text or "e" in text else text
    if half_width not in {"", "nan"}:
        shown += f" ± {float(half_width):.2g}"
    return Cell(shown, value)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"a row has {len(row)} cells for {len(columns)} columns")
    return Table(columns, rows)
