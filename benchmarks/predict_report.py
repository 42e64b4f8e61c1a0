"""The table and the picture of `benchmarks.predict`."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.spread import ratios, spread
from experiments.reports import tables
from experiments.reports.drawing import Figure, in_own_style, save
from experiments.runtime.files import write_json, write_text

Record = Mapping[str, Any]

_CAPTION = """\
Medians of the rounds (smallest to largest) of the time to predict all images with DropMax: pixels
from bytes, the network, log-probabilities back in NumPy. *mean mask* unless it says Monte Carlo,
the average over 50 masks. *it / ours*: the quotient of each round with ours, mean mask; above 1,
ours is faster. Of the batch sizes tried for a peer, the quickest is shown. *first*: the first
prediction, compilation included.
"""


def write(results: Mapping[str, Any], savedir: Path) -> None:
    """Writes `predict.json`, `predict.md` and `predict.png`."""
    write_json(savedir / "predict.json", results)
    write_text(savedir / "predict.md", markdown(results))
    draw(quickest(results["records"]), results["images"], savedir / "predict.png")


def quickest(records: Sequence[Record]) -> list[Record]:
    """The record of the quickest batch size, for each network, peer and way to predict."""
    found: dict[tuple[str, str, str], Record] = {}
    for record in records:
        key = record["network"], record["peer"], record["function"]
        best = found.get(key)
        if best is None or spread(record["seconds"]).median < spread(best["seconds"]).median:
            found[key] = record
    return list(found.values())


def markdown(results: Mapping[str, Any]) -> str:
    """The table, with the machine above it."""
    shown = quickest(results["records"])
    header = ("network", "by", "seconds", "it / ours", "images/s", "first, s", "memory, MB")
    lines = [
        f"Machine: {machine.in_words(results['machine'])}.",
        f"{results['images']:,} images; {results['rounds']} rounds, "
        f"{results['seconds_a_turn']:g} s a turn.",
        "",
        tables.line(header),
        tables.line(["---"] * len(header)),
        *(tables.line(_cells(record, shown, results["images"])) for record in shown),
        "",
        textwrap.fill(_CAPTION, 100),
    ]
    return "\n".join(lines) + "\n"


@in_own_style
def draw(records: Sequence[Record], num_images: int, path: Path) -> None:
    """Draws the time of each record, with a panel for each network."""
    networks = list(dict.fromkeys(record["network"] for record in records))
    figure = Figure(figsize=(6 * len(networks), 3.6), layout="constrained")
    panels = figure.subplots(1, len(networks), squeeze=False)[0]
    for axes, network in zip(panels, networks, strict=True):
        own = [record for record in records if record["network"] == network]
        found = [spread(record["seconds"]) for record in own]
        medians = np.array([each.median for each in found])
        ends = np.array([[each.smallest, each.largest] for each in found]).T
        colors = [f"C{int(record['peer'] != 'ours')}" for record in own]
        places = np.arange(len(own))
        axes.barh(places, medians, color=colors, xerr=np.abs(ends - medians), capsize=3)
        axes.set(
            title=network,
            xlabel=f"seconds for {num_images:,} images",
            yticks=places,
            yticklabels=[_name(record) for record in own],
        )
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
    save(figure, path)


def _name(record: Record) -> str:
    if record["function"] != "predictor":
        return f"{record['peer']}, Monte Carlo"
    if record["batch_size"]:
        return f"{record['peer']}, batches of {record['batch_size']}"
    return str(record["peer"])


def _cells(record: Record, records: Sequence[Record], num_images: int) -> list[str]:
    ours = next(
        other["seconds"]
        for other in records
        if (other["network"], other["peer"], other["function"])
        == (record["network"], "ours", "predictor")
    )
    seconds = spread(record["seconds"])
    is_ours = record["peer"] == "ours" and record["function"] == "predictor"
    return [
        record["network"],
        _name(record),
        f"{seconds.median:.3f} ({seconds.smallest:.3f} to {seconds.largest:.3f})",
        "" if is_ours else str(ratios(record["seconds"], ours)),
        f"{num_images / seconds.median:.0f}",
        f"{record['first_seconds']:.1f}",
        f"{record['peak_memory_bytes'] / 1e6:.0f}",
    ]
