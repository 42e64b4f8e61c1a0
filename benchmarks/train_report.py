"""The table and the picture of `benchmarks.train`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.products import products
from benchmarks.spread import ratios, spread
from experiments.reports import tables
from experiments.reports.drawing import Figure, in_own_style, save
from experiments.runtime.files import write_json, write_text

Record = Mapping[str, Any]


_CAPTION = """\
Median of the rounds (smallest to largest). *ours / it*: the quotient of each round; above 1, ours
is faster. `products` is no trainer: it only multiplies the step's matrices, convolutions as plain
products of patches; ours needs fewer multiplications. `ours_5_seeds` counts the steps of all
five models. *first step*: from the call that begins to the end of the first step,
compilation included, imports not. *memory*: the most that the process had resident.
"""


def write(results: Mapping[str, Any], savedir: Path) -> None:
    """Writes `train.json`, `train.md` and `train.png`."""
    write_json(savedir / "train.json", results)
    write_text(savedir / "train.md", markdown(results))
    draw(results["records"], savedir / "train.png")


def markdown(results: Mapping[str, Any]) -> str:
    """The table, with the machine above it and the conclusions below."""
    records: Sequence[Record] = results["records"]
    header = (
        "network",
        "model",
        "trainer",
        "steps/s",
        "ours / it",
        "first step, s",
        "memory, MB",
    )
    lines = [
        f"Machine: {machine.in_words(results['machine'])}.",
        f"{results['rounds']} rounds, {results['seconds_a_turn']:g} s a turn.",
        "",
        tables.line(header),
        tables.line(["---"] * len(header)),
        *(tables.line(_cells(record, records)) for record in records),
        "",
        _CAPTION,
        *_conclusions(records),
    ]
    return "\n".join(lines) + "\n"


@in_own_style
def draw(records: Sequence[Record], path: Path) -> None:
    """Draws the steps per second of each trainer, with a panel for each network and model."""
    cases = list(dict.fromkeys(map(_case, records)))
    columns = min(2, len(cases))
    rows = -(-len(cases) // columns)
    figure = Figure(figsize=(6 * columns, 0.8 + 2.6 * rows), layout="constrained")
    panels: Any = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, case in zip(panels, cases, strict=False):
        own = [record for record in records if _case(record) == case]
        trainers = [record for record in own if record["peer"] != "products"]
        spreads = [spread(record["steps_per_second"]) for record in trainers]
        medians = np.array([found.median for found in spreads])
        ends = np.array([[found.smallest, found.largest] for found in spreads]).T
        colors = [f"C{int(not record['peer'].startswith('ours'))}" for record in trainers]
        places = np.arange(len(trainers))
        axes.barh(places, medians, color=colors, xerr=np.abs(ends - medians), capsize=3)
        for record in own:
            if record["peer"] == "products":
                rate = spread(record["steps_per_second"]).median
                axes.axvline(rate, color="black", ls="--", label="matrix products alone")
                axes.legend(fontsize="small", loc="lower right")
        axes.set(
            title=", ".join(case),
            xlabel="steps/s, batch 100",
            yticks=places,
            yticklabels=[record["peer"] for record in trainers],
        )
        axes.invert_yaxis()
        axes.grid(axis="x", alpha=0.3)
    for axes in panels[len(cases) :]:
        axes.set_axis_off()
    save(figure, path)


def _case(record: Record) -> tuple[str, str]:
    return record["network"], record["model"]


def _ours(case: tuple[str, str], records: Sequence[Record]) -> Sequence[float]:
    return next(
        record["steps_per_second"]
        for record in records
        if _case(record) == case and record["peer"] == "ours"
    )


def _cells(record: Record, records: Sequence[Record]) -> list[str]:
    rates, is_alone = record["steps_per_second"], record["peer"] == "products"
    found = spread(rates)
    return [
        *_case(record),
        record["peer"],
        f"{found.median:.1f} ({found.smallest:.1f} to {found.largest:.1f})",
        "" if record["peer"] == "ours" else str(ratios(_ours(_case(record), records), rates)),
        "" if is_alone else f"{record['first_step_seconds']:.1f}",
        "" if is_alone else f"{record['peak_memory_bytes'] / 1e6:.0f}",
    ]


def _conclusions(records: Sequence[Record]) -> list[str]:
    lines = []
    for record in records:
        network, model = _case(record)
        if record["peer"] != "products":
            continue
        flops = sum(product.num_flops for product in products(model, network))
        rate = spread(record["steps_per_second"]).median
        share = ratios(_ours((network, model), records), record["steps_per_second"])
        lines.append(
            f"- {network}, {model}: ours trains at {100 * share.median:.0f} % "
            f"({100 * share.smallest:.0f} to {100 * share.largest:.0f} %) of the rate at which a "
            f"step's plain products alone, {flops / 1e9:.2f} GFLOP, are done: "
            f"{rate * flops / 1e9:.0f} GFLOP/s."
        )
    cases = dict.fromkeys(map(_case, records))
    for network in dict.fromkeys(network for network, _ in cases):
        if {(network, "softmax"), (network, "dropmax")} <= cases.keys():
            softmax, dropmax = (_ours((network, m), records) for m in ("softmax", "dropmax"))
            lines.append(
                f"- {network}, ours: a step of DropMax takes {ratios(softmax, dropmax)} times one "
                "of softmax."
            )
    return lines
