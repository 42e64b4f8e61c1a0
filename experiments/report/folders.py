"""What a folder of results holds, at any depth."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from experiments.cli.errors import UserError
from experiments.report.comparisons import Comparison, is_of_command, read_comparison
from experiments.report.figures import KINDS, Figure, embedded
from experiments.report.left_out import LeftOut, reason_of
from experiments.report.runs import Run, read_run

# Of a run, and of no interest here.
_INSIDE_RUNS = {"checkpoints", "diverged"}


class Results(NamedTuple):
    """What a folder of results holds.

    Attributes:
        runs: Those that belong to no comparison.
        comparisons: The folders that commands which train several runs have written.
        pictures: Those of other folders.
        left_out: What is not shown.
    """

    runs: list[Run]
    comparisons: list[Comparison]
    pictures: dict[Path, list[Figure]]
    left_out: list[LeftOut]


def read_results(results: Path) -> Results:
    """Reads a folder; takes no lock, and writes nothing.

    A run belongs to the comparison in the nearest folder above it, and pictures to the run or
    comparison in the nearest one.

    Args:
        results: An absolute path without links in it.
    """
    runs: dict[Path, Run] = {}
    comparisons: dict[Path, Comparison] = {}
    pictures: dict[Path, list[Path]] = {}
    left_out: list[LeftOut] = []
    for folder, names in _folders(results, left_out):
        above = [folder, *folder.parents]
        if "config.json" in names:
            try:
                runs[folder] = read_run(folder, results, left_out)
            except UserError as error:
                left_out.append(LeftOut(folder / "config.json", str(error)))
                continue
        elif any(map(is_of_command, names)):
            comparisons[folder] = read_comparison(folder, names, results, left_out)
        owner = next((path for path in above if path in runs or path in comparisons), folder)
        shown = [folder / name for name in names if Path(name).suffix.lower() in KINDS]
        if shown:
            pictures.setdefault(owner, []).extend(shown)
    figures = embedded(pictures, results, left_out)
    alone: list[Run] = []
    for path, run in runs.items():
        own = run._replace(figures=figures.pop(path, []))
        of = next((comparisons[above] for above in path.parents if above in comparisons), None)
        (alone if of is None else of.runs).append(own)
    found = [
        comparison._replace(figures=figures.pop(path, []))
        for path, comparison in comparisons.items()
    ]
    return Results(alone, found, figures, sorted(left_out))


def _folders(results: Path, left_out: list[LeftOut]) -> Iterator[tuple[Path, list[str]]]:
    """Each folder from this one down, with the names of its files."""
    waiting = [results]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: _natural(entry.name))
        except OSError as error:
            left_out.append(LeftOut(folder, f"it cannot be read: {reason_of(error)}"))
            continue
        names, inside = [], []
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _INSIDE_RUNS and not entry.name.startswith("."):
                    inside.append(folder / entry.name)
            elif os.path.isdir(entry.path):
                reason = "it is a link to a folder: pass that one as --results to see it"
                left_out.append(LeftOut(folder / entry.name, reason))
            else:
                names.append(entry.name)
        yield folder, names
        waiting += reversed(inside)


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which `60_epochs` comes before `240_epochs`."""
    parts = re.findall(r"\d+|\D+", name)
    return [
        (int(part), "") if part.isdecimal() and len(part) < 20 else (-1, part) for part in parts
    ]
