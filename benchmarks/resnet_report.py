"""The table of `benchmarks.resnet`."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.spread import ratios, spread
from experiments.reports import tables
from experiments.runtime.files import write_json, write_text

_CAPTION = """\
Medians of the rounds (smallest to largest). *plain Flax*: `nn.Conv`, `nn.BatchNorm` and optax's
SGD in one jitted step, without the sums that this project's step keeps. *ours / plain*: the time of
a step, in the same round. *TFLOP/s*: the operations that XLA counts in plain Flax's step before it
is optimised, in the time of ours with DropMax.
"""


def in_words(record: Mapping[str, Any]) -> str:
    """A record in one line."""
    times = record["seconds_a_step"]
    shown = ", ".join(f"{name} {1e3 * spread(found).median:.1f}" for name, found in times.items())
    return f"{record['network']}, {record['precision']}: {shown} ms a step"


def write(results: Mapping[str, Any], savedir: Path) -> None:
    """Writes `resnet.json` and `resnet.md`."""
    write_json(savedir / "resnet.json", results)
    write_text(savedir / "resnet.md", markdown(results))


def markdown(results: Mapping[str, Any]) -> str:
    """The table, with the machine above it."""
    header = (
        "network",
        "precision",
        "plain Flax, ms",
        "softmax, ms",
        "softmax / plain",
        "DropMax, ms",
        "DropMax / plain",
        "images/s",
        "TFLOP/s",
    )
    rows = [header, ("---",) * len(header)]
    for record in results["records"]:
        times = record["seconds_a_step"]
        plain, softmax, dropmax = (times[name] for name in ("plain", "softmax", "dropmax"))
        seconds = spread(dropmax).median
        flops = record["flops_a_step"]
        rows.append(
            (
                record["network"],
                record["precision"],
                f"{1e3 * spread(plain).median:.1f}",
                f"{1e3 * spread(softmax).median:.1f}",
                str(ratios(softmax, plain)),
                f"{1e3 * seconds:.1f}",
                str(ratios(dropmax, plain)),
                f"{results['batch_size'] / seconds:.0f}",
                "" if flops is None else f"{flops / seconds / 1e12:.2f}",
            )
        )
    found = results["machine"]
    about = (
        f"{found['devices']} x {found['device']}; {machine.in_words(found)}.\n"
        f"Batches of {results['batch_size']} images of 32x32 pixels, {results['rounds']} rounds."
    )
    table = "\n".join(map(tables.line, rows))
    return f"{about}\n\n{table}\n\n{textwrap.fill(_CAPTION, 100)}\n"
