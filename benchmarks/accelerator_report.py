"""The tables of `benchmarks.accelerator`."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import linear_report, loss_report, machine
from benchmarks.spread import spread
from experiments.reports import tables
from experiments.runtime.files import write_json, write_text

_CAPTION = """\
Median of the rounds (smallest to largest), after compilation, batch 100, an epoch of 10 steps a
call. *model-steps/s* counts the steps of every seed. *first epoch*: with compilation, which is
quick where the cache has the program.
"""


def write(results: Mapping[str, Any], savedir: Path) -> None:
    """Writes `accelerator.json` and `accelerator.md`."""
    write_json(savedir / "accelerator.json", results)
    write_text(savedir / "accelerator.md", markdown(results))


def markdown(results: Mapping[str, Any]) -> str:
    """Both tables, with the device above."""
    found = results["machine"]
    header = ("network", "model", "precision", "seeds", "model-steps/s", "first epoch, s")
    lines = [
        f"Device: {found['devices']} x {found['device']}. Host: {machine.in_words(found)}.",
        f"{results['rounds']} rounds, {results['seconds_a_turn']:g} s a turn.",
        "",
        tables.line(header),
        tables.line(["---"] * len(header)),
        *(tables.line(_cells(record)) for record in results["records"]),
        "",
        textwrap.fill(_CAPTION, 100),
    ]
    if any("milliseconds" in record for record in results["loss"]):
        bandwidth = results["bandwidth_bytes_per_second"]
        lines += [
            "",
            f"The loss alone; memory bandwidth {bandwidth / 1e9:.0f} GB/s (triad):",
            "",
            *loss_report.table(results["loss"], bandwidth),
            "",
            textwrap.fill(loss_report.CAPTION, 100),
        ]
    if results["linear"]:
        lines += ["", *linear_report.table(results["linear"])]
    return "\n".join(lines) + "\n"


def _cells(record: Mapping[str, Any]) -> list[str]:
    rates = spread(record["steps_per_second"])
    return [
        record["network"],
        record["model"],
        record["precision"],
        str(record["seeds"]),
        f"{rates.median:.0f} ({rates.smallest:.0f} to {rates.largest:.0f})",
        f"{record['compile_seconds']:.1f}",
    ]
