"""Draws all figures of a run, and writes them with their captions."""

from collections.abc import Callable, Mapping
from pathlib import Path

from experiments.figures import (
    boundaries,
    correlation,
    cross_entropy,
    reliability,
    retained,
    scatter,
)
from experiments.figures.subject import Drawn, Subject, source
from experiments.reports.drawing import in_own_style, save
from experiments.runtime.files import write_text

CAPTIONS = "captions.md"

_OF_A_MODEL: Mapping[str, Callable[[Subject], Drawn | str]] = {
    "retained": retained.draw,
    "posterior": retained.draw_posterior,
    "correlation": correlation.draw,
    "scatter": scatter.draw,
    "boundaries": boundaries.draw,
}
_OF_RUNS: Mapping[str, Callable[[list[Subject]], Drawn | str]] = {
    "cross_entropy": cross_entropy.draw,
    "reliability": reliability.draw,
}
NAMES = (*_OF_A_MODEL, *_OF_RUNS)


@in_own_style
def draw_all(
    subject: Subject, other: Subject | None, folder: Path, say: Callable[[str], None]
) -> None:
    """Writes `NAME.png` and `NAME.svg` of each figure, and `captions.md`.

    Args:
        subject: The run. Figures of a model are of its first seed.
        other: A run to draw beside it where a figure is of all seeds.
        folder: Where to write; it exists.
        say: Told of each figure, and of those that the run does not have.
    """
    subjects = [subject] if other is None else [subject, other]
    captions, left_out = [], dict[str, list[str]]()
    for name in NAMES:
        of_model = name in _OF_A_MODEL
        drawn = _OF_A_MODEL[name](subject) if of_model else _OF_RUNS[name](subjects)
        if isinstance(drawn, str):
            left_out.setdefault(drawn, []).append(name)
            continue
        for kind in ("png", "svg"):
            save(drawn.figure, folder / f"{name}.{kind}")
        shown = [subject] if of_model else subjects
        sources = " ".join(source(each, all_seeds=not of_model) for each in shown)
        captions.append(f"## {name}\n\n![{name}]({name}.png)\n\n{drawn.caption}\n\n{sources}\n")
        say(f"wrote {name}.png and {name}.svg")
    reasons = [f"{', '.join(names)} ({reason})" for reason, names in left_out.items()]
    if reasons:
        say(f"left out: {'; '.join(reasons)}")
        captions.append(f"Left out: {'; '.join(reasons)}.\n")
    write_text(folder / CAPTIONS, "# Figures\n\n" + "\n".join(captions))
