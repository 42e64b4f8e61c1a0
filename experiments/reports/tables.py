"""Tables of records, in CSV and Markdown."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments.reports.statistics import mean_and_half_width

_LONGEST_NAME = 14

Record = Mapping[str, Any]
"""A row by the names of its columns, with `X_half_width` beside `X` where there is one."""


def to_csv(records: Sequence[Record]) -> str:
    """A table with the names of the columns on top, at full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def means(named: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Each mean over seeds, and the half width of its interval.

    >>> means({"nll": [0.1]})
    {'nll': 0.1, 'nll_half_width': nan}
    """
    found = {}
    for name, values in named.items():
        found[name], found[f"{name}_half_width"] = mean_and_half_width(values)
    return found


def line(cells: Iterable[str]) -> str:
    """A line of a Markdown table.

    >>> line(["a", "b"])
    '| a | b |'
    """
    return f"| {' | '.join(cells)} |"


def cells_of(text: str) -> list[str]:
    """The inverse of `line`.

    >>> cells_of("| a |  | p(z|x) |")
    ['a', '', 'p(z|x)']
    """
    return text[2:-2].split(" | ")


def cell(record: Record, name: str, digits: int = 2, sign: str = "") -> str:
    """A value with its half width; empty if the value is NaN, as for a missing one.

    >>> cell({"nll": 0.1234, "nll_half_width": 0.01}, "nll", 3)
    '0.123 ± 0.010'
    """
    value, half_width = record[name], record.get(f"{name}_half_width", math.nan)
    if math.isnan(value):
        return ""
    spread = "" if math.isnan(half_width) else f" ± {half_width:.{digits}f}"
    return f"{value:{sign}.{digits}f}{spread}"


def shortened(name: str) -> str:
    """A name of at most 14 letters, of which those in the middle may be left out.

    Example:
        >>> shortened("rex_begonia_leaf_variety_1")
        'rex_bego…ety_1'
    """
    if len(name) <= _LONGEST_NAME:
        return name
    end = (_LONGEST_NAME - 1) // 2 - 1
    return f"{name[: _LONGEST_NAME - 1 - end]}…{name[-end:]}"
