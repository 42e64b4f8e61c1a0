"""The table and the picture of `benchmarks.loss`."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import linear_report, machine
from benchmarks.loss_timing import ARRAYS_MOVED, bytes_moved
from benchmarks.spread import ratios, spread
from experiments.reports import tables
from experiments.reports.drawing import Figure, in_own_style, save
from experiments.runtime.files import write_json, write_text

Record = Mapping[str, Any]

_HEADER = (
    "batch x classes",
    "softmax, ms",
    "DropMax, ms",
    "DropMax / softmax",
    "noise given, ms",
    "uniform numbers alone, ms",
    "kept meanwhile, arrays",
    "moved, MB",
    "of the bandwidth",
)

_VARIANTS = ("terms", "weights", "probabilities", "where", "balanced")
_VARIANTS_CAPTION = """\
The time of the DropMax loss with an option, by its time without: *terms*, also the mean of each
term; *weights*, traced; *probabilities*, as labels; *where*, nine examples of ten; *balanced*,
`dropmax_balanced_loss`.
"""
CAPTION = f"""\
Forward and backward pass, mean over the batch, float32; medians of the rounds, *DropMax / softmax*
with the smallest and largest quotient of a round. *softmax*: optax's with integer labels.
*noise given*: the loss put together term by term, of public functions, for noise that lies ready
in memory. *kept meanwhile*: memory that the compiled DropMax program takes beside heads and
gradients, in arrays of batch x classes. *moved*: the least traffic, {ARRAYS_MOVED["dropmax"]}
arrays for DropMax (three heads, read in either pass, and three gradients, written) and
{ARRAYS_MOVED["softmax"]} for softmax, of 4 bytes x batch x classes each. *of the bandwidth*: this
traffic in the time of DropMax (of softmax in brackets), as a part of the bandwidth of a triad.
Above 100 %, the arrays stay in caches.
"""


def write(results: Mapping[str, Any], savedir: Path) -> None:
    """Writes `loss.json`, `loss.md` and `loss.png`."""
    write_json(savedir / "loss.json", results)
    write_text(savedir / "loss.md", markdown(results))
    measured = [record for record in results["records"] if "milliseconds" in record]
    if measured:
        draw(measured, savedir / "loss.png")


def markdown(results: Mapping[str, Any]) -> str:
    """The machine and the table."""
    lines = [
        f"Machine: {machine.in_words(results['machine'])}; device: {results['machine']['device']}.",
        f"{results['rounds']} rounds, {results['seconds_a_turn']:g} s a turn.",
    ]
    if results["records"]:
        bandwidth = results["bandwidth_bytes_per_second"]
        lines += [
            "",
            f"Bandwidth {bandwidth / 1e9:.1f} GB/s.",
            "",
            *table(results["records"], bandwidth),
            "",
            textwrap.fill(CAPTION, 100),
            "",
            *variants(results["records"]),
            "",
            textwrap.fill(_VARIANTS_CAPTION, 100),
        ]
    if results["linear"]:
        lines += ["", *linear_report.table(results["linear"])]
    return "\n".join(lines) + "\n"


def table(records: Sequence[Record], bandwidth: float) -> list[str]:
    """The lines of the table, without sizes that did not fit into memory."""
    measured = [record for record in records if "milliseconds" in record]
    return [
        tables.line(_HEADER),
        tables.line(["---"] * len(_HEADER)),
        *(tables.line(_cells(record, bandwidth)) for record in measured),
    ]


def variants(records: Sequence[Record]) -> list[str]:
    """The lines of a table of what the loss's options cost."""
    measured = [record for record in records if "milliseconds" in record]
    return [
        tables.line(("batch x classes", *_VARIANTS)),
        tables.line(["---"] * (1 + len(_VARIANTS))),
        *(
            tables.line(
                [
                    f"{record['batch']} x {record['classes']}",
                    *(
                        str(ratios(times[f"dropmax_{name}"], times["dropmax"]))
                        for name in _VARIANTS
                    ),
                ]
            )
            for record in measured
            for times in [record["milliseconds"]]
        ),
    ]


def in_words(record: Record, max_bytes: float) -> str:
    """The result for one size, in one line."""
    size = f"{record['batch']} x {record['classes']}"
    if "milliseconds" not in record:
        return (
            f"{size}: left out, needs {record['bytes_needed'] / 1e9:.1f} GB of memory, and "
            f"{max_bytes / 1e9:.1f} GB may be used (--max_gigabytes)"
        )
    times = record["milliseconds"]
    return (
        f"{size}: softmax {spread(times['softmax'])} ms, DropMax {spread(times['dropmax'])} ms, "
        f"{ratios(times['dropmax'], times['softmax'])} times as long"
    )


@in_own_style
def draw(records: Sequence[Record], path: Path) -> None:
    """Draws DropMax's time relative to the softmax's, with noise drawn and with noise given."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(records))
    for shift, (name, label) in enumerate(
        (("dropmax", "noise drawn"), ("dropmax_given_noise", "noise given"))
    ):
        found = [
            ratios(record["milliseconds"][name], record["milliseconds"]["softmax"])
            for record in records
        ]
        medians = np.array([each.median for each in found])
        ends = np.array([[each.smallest, each.largest] for each in found]).T
        error = np.abs(ends - medians)
        axes.bar(places + 0.36 * shift, medians, 0.36, yerr=error, capsize=3, label=label)
    axes.axhline(1, color="black", lw=1)
    axes.set(
        title="loss alone, forward and backward",
        xlabel="batch x classes",
        ylabel="time / softmax cross-entropy's",
        xticks=places + 0.18,
        xticklabels=[f"{record['batch']} x {record['classes']}" for record in records],
    )
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    save(figure, path)


def _cells(record: Record, bandwidth: float) -> list[str]:
    shape = record["batch"], record["classes"]
    times = record["milliseconds"]

    def share(model: str) -> float:
        seconds = spread(times[model]).median / 1e3
        return 100 * bytes_moved(model, shape) / seconds / bandwidth

    return [
        f"{shape[0]} x {shape[1]}",
        *(f"{spread(times[name]).median:.3g}" for name in ("softmax", "dropmax")),
        str(ratios(times["dropmax"], times["softmax"])),
        *(f"{spread(times[name]).median:.3g}" for name in ("dropmax_given_noise", "uniform")),
        f"{record['arrays_between']['dropmax']:.2f}",
        f"{bytes_moved('dropmax', shape) / 1e6:.3g}",
        f"{share('dropmax'):.0f} % ({share('softmax'):.0f} %)",
    ]
