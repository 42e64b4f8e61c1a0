"""The table of `benchmarks.profile`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import machine
from experiments.reports import tables
from experiments.runtime.files import write_json, write_text

_CAPTION = """\
Milliseconds of the kernels of a training step, by what they are for. Kernels may run side by side,
and between them XLA waits: the sum is not the step's time by the clock.
"""


def write(results: Mapping[str, Any], savedir: Path) -> None:
    """Writes `profile.json` and `profile.md`."""
    write_json(savedir / "profile.json", results)
    write_text(savedir / "profile.md", markdown(results))


def markdown(results: Mapping[str, Any]) -> str:
    """A column for each network and model, a row for each part of a step."""
    records = results["records"]
    parts = sorted({part for record in records for part in record["kernel_milliseconds"]})
    header = ["part", *(f"{record['network']}, {record['model']}" for record in records)]
    rows = [
        [part, *(f"{record['kernel_milliseconds'].get(part, 0):.2f}" for record in records)]
        for part in parts
    ]
    sums = [f"{sum(record['kernel_milliseconds'].values()):.2f}" for record in records]
    clock = [f"{record['step_milliseconds']:.2f}" for record in records]
    lines = [
        f"Machine: {machine.in_words(results['machine'])}.",
        f"Means of {records[0]['steps']} steps.",
        "",
        tables.line(header),
        tables.line(["---"] * len(header)),
        *map(tables.line, rows),
        tables.line(["sum of the kernels", *sums]),
        tables.line(["step by the clock", *clock]),
        "",
        _CAPTION,
    ]
    return "\n".join(lines)
