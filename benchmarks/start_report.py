"""The table of `benchmarks.start`."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.spread import Spread, spread
from experiments.reports import tables
from experiments.runtime.files import write_json, write_text

_CAPTION = """\
Medians (smallest to largest) where there are several runs. *first step*: from the start of the
process to the end of the first step; it counts the first validation, too, and so is a little more.
*cold*: the first run with an empty compilation cache; *warm*: those after it. *over its training
steps*: what the process takes beyond the time of the optimiser's steps, as a part of that time.
"""


def write(results: Mapping[str, Any], savedir: Path) -> None:
    """Writes `start.json` and `start.md`."""
    write_json(savedir / "start.json", results)
    write_text(savedir / "start.md", markdown(results))


def markdown(results: Mapping[str, Any]) -> str:
    """The table, with the machine above it."""

    def over(name: str, value: str) -> Spread:
        return spread([run[value] for run in results[name]])

    def seconds(found: Spread, digits: int = 1) -> str:
        text = f"{found.median:.{digits}f} s"
        if found.smallest == found.largest:
            return text
        return f"{text} ({found.smallest:.{digits}f} to {found.largest:.{digits}f})"

    extra = spread([100 * (run["seconds"] / run["train_seconds"] - 1) for run in results["warm"]])
    rows = [
        ("`--help`", seconds(over("help", "seconds"), 2)),
        ("first step, cold", seconds(over("cold", "first_step_seconds"))),
        ("first step, warm", seconds(over("warm", "first_step_seconds"))),
        (f"whole run of {results['num_epochs']} epochs, warm", seconds(over("warm", "seconds"))),
        ("its training steps", seconds(over("warm", "train_seconds"))),
        (
            "over its training steps",
            f"{extra.median:.1f} % ({extra.smallest:.1f} to {extra.largest:.1f})",
        ),
        ("its memory", f"{over('warm', 'peak_memory_bytes').largest / 1e6:.0f} MB"),
    ]
    if results["all_images"]:
        peak = over("all_images", "peak_memory_bytes").largest
        rows.append(("memory, `--train_per_class=all --num_epochs=1`", f"{peak / 1e6:.0f} MB"))
    lines = [
        f"Machine: {machine.in_words(results['machine'])}. Data: {results['data']}.",
        "",
        tables.line(["", "measured"]),
        tables.line(["---"] * 2),
        *(tables.line(row) for row in rows),
        "",
        textwrap.fill(_CAPTION, 100),
    ]
    return "\n".join(lines) + "\n"
