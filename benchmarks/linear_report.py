"""The table of the losses of linear heads."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.spread import ratios, spread
from experiments.reports import tables

Record = Mapping[str, Any]

_HEADER = (
    "examples x classes x features",
    "DropMax in blocks, ms",
    "by DropMax whole",
    "by softmax in blocks",
    "softmax in blocks by whole",
    "memory in blocks, MB",
    "by DropMax whole",
    "peak: DropMax in blocks, whole, GB",
)
CAPTION = """\
Losses of linear heads with the gradients of features and kernels; medians of the rounds, quotients
with the smallest and largest of a round. *in blocks*: `dropmax_linear_loss` and
`softmax_linear_loss`. *whole*: `dropmax_loss` and optax's softmax of heads that are in memory.
*memory*: what the compiled program takes beside inputs and gradients. *peak*: the most memory of a
process that calls the function once, on CPU. Whole heads of DropMax have the type of features; the
logits of the whole softmax are in float32.
"""


def table(records: Sequence[Record]) -> list[str]:
    """The lines of the table, and of one for other blocks if some were measured."""
    lines = [
        tables.line(_HEADER),
        tables.line(["---"] * len(_HEADER)),
        *(tables.line(_cells(record)) for record in records if _is_measured(record)),
        "",
        textwrap.fill(CAPTION, 100),
    ]
    for record in records:
        times = record["milliseconds"]
        blocks = [name for name in times if name[0].isdigit()]
        if blocks and _is_measured(record):
            header = (f"blocks for {_size(record)}", "ms", "by the block chosen", "memory, MB")
            lines += ["", tables.line(header), tables.line(["---"] * len(header))]
            lines += [tables.line(_block_cells(record, name)) for name in blocks]
    return lines


def _is_measured(record: Record) -> bool:
    return "dropmax_linear" in record["milliseconds"]


def in_words(record: Record) -> str:
    """The result for one size, in one line."""
    times, between = record["milliseconds"], record["bytes_between"]
    found = [f"{name} {spread(times[name])} ms, {between[name] / 1e6:.0f} MB" for name in times]
    found += [
        f"{name} left out, needs {size / 1e6:.0f} MB and its inputs twice (--max_gigabytes)"
        for name, size in between.items()
        if name not in times
    ]
    return f"{_size(record)}: {'; '.join(found)}"


def _cells(record: Record) -> list[str]:
    times, between = record["milliseconds"], record["bytes_between"]

    def ratio(one: str, other: str) -> str:
        return str(ratios(times[one], times[other])) if one in times and other in times else ""

    part = between["dropmax_linear"] / between["dropmax"]
    peaks = record.get("peak_bytes", {})
    return [
        _size(record),
        f"{spread(times['dropmax_linear']).median:.3g}",
        ratio("dropmax_linear", "dropmax"),
        ratio("dropmax_linear", "softmax_linear"),
        ratio("softmax_linear", "softmax"),
        f"{between['dropmax_linear'] / 1e6:.3g}",
        f"{100 * part:.1f} %",
        ", ".join(
            f"{peaks[name] / 1e9:.2f}" for name in ("dropmax_linear", "dropmax") if name in peaks
        ),
    ]


def _block_cells(record: Record, name: str) -> list[str]:
    times, between = record["milliseconds"], record["bytes_between"]
    return [
        name,
        f"{spread(times[name]).median:.3g}",
        str(ratios(times[name], times["dropmax_linear"])),
        f"{between[name] / 1e6:.3g}",
    ]


def _size(record: Record) -> str:
    size = record["size"]
    return f"{size['examples']} x {size['classes']} x {size['features']}, {record['dtype']}"
