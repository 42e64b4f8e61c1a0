"""Writes what was read as one page, which needs nothing beside it."""

import base64
import dataclasses
import hashlib
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from experiments.cli.errors import UserError, printable
from experiments.report.commands import FOLLOWS, rerun
from experiments.report.comparisons import Cell, Comparison, Table
from experiments.report.folders import Results
from experiments.report.runs import FIGURES, Run, Test
from experiments.reports.statistics import mean_and_half_width
from experiments.reports.templates import template
from experiments.train.config import Config

MARK = '<meta name="generator" content="experiments.report of DropMax for JAX">'
"""The page says who wrote it, so that it may be written again."""

_ASSETS = Path(__file__).parent / "assets"
_FIGURE_TITLES = {
    "error_percent": "test error, %",
    "nll": "NLL, nats",
    "ece_percent": "ECE, %",
    "brier": "Brier",
}
_COLUMNS = (
    *("run", "method", "network", "data set", "training examples", "seeds", "epochs"),
    *_FIGURE_TITLES.values(),
    *("seconds", "device", "date"),
)


class _Section(NamedTuple):
    """A run as the page shows it.

    Attributes:
        id: To link to.
        name: Of its folder, below that of the results or of the comparison.
        state: How far it came; empty for a finished run.
        run: What was read.
        settings: Names and values that differ from the defaults.
        other_settings: The others.
        tests: The figures of each seed and test set; None where the table of runs has them all.
        command: That trains it again.
        no_command: Why there is none.
    """

    id: str
    name: str
    state: str
    run: Run
    settings: Mapping[str, str]
    other_settings: Mapping[str, str]
    tests: Table | None
    command: str
    no_command: str


class _Group(NamedTuple):
    """Runs: their table, and a section for each."""

    table: Table
    sections: list[_Section]


class _Chapter(NamedTuple):
    """A comparison as the page shows it."""

    id: str
    name: str
    comparison: Comparison
    group: _Group


def render(read: Results, given: Path, results: Path, command: str) -> str:
    """The page as HTML.

    Args:
        read: What to show.
        given: The folder of results as the user names it, by which commands name it, too.
        results: The folder of results.
        command: That makes the page.
    """

    def name_of(path: Path, above: Path = results) -> str:
        inside = path.relative_to(above)
        return printable(inside if inside.parts else path.name)

    def group(runs: list[Run], start: int, above: Path = results) -> _Group:
        sections = [
            _section(
                run,
                f"run-{number}",
                name_of(run.folder, above),
                given / run.folder.relative_to(results),
            )
            for number, run in enumerate(runs, start)
        ]
        return _Group(Table(_COLUMNS, [_row(section) for section in sections]), sections)

    alone = group(read.runs, 1)
    count = len(read.runs)
    chapters = []
    for number, comparison in enumerate(read.comparisons, 1):
        name = name_of(comparison.folder)
        own = group(comparison.runs, count + 1, comparison.folder)
        chapters.append(_Chapter(f"table-{number}", name, comparison, own))
        count += len(comparison.runs)
    style, script = (_asset(name) for name in ("style.css", "page.js"))
    html = template(_ASSETS).render(
        mark=Markup(MARK),
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'",
        name=printable(results.name or results),
        command=command,
        now=_time(datetime.now().timestamp()),
        alone=alone,
        chapters=chapters,
        count=count,
        count_finished=sum(run.summary is not None for run in _all_runs(read)),
        pictures={name_of(path): of for path, of in read.pictures.items()},
        left_out=[(name_of(each.path), printable(each.reason)) for each in read.left_out],
    )
    # A name can hold bytes that are not UTF-8, a JSON file halves of letters.
    return html.encode("utf-8", "backslashreplace").decode("utf-8")


def _all_runs(read: Results) -> list[Run]:
    return read.runs + [run for comparison in read.comparisons for run in comparison.runs]


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """How a page's policy names the one script or style that it lets in."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _section(run: Run, id_: str, name: str, folder: Path) -> _Section:
    command = no_command = ""
    try:
        command = rerun(run.config, folder, run.summary is not None)
    except UserError as error:
        no_command = str(error)
    return _Section(
        id_,
        name,
        _state(run),
        run,
        _settings(run.config, are_default=False),
        _settings(run.config, are_default=True),
        _tests(run),
        command,
        no_command,
    )


def _state(run: Run) -> str:
    if run.summary is not None:
        return ""
    if run.problem:
        return "damaged"
    return "not tested" if run.num_epochs_done >= run.config.num_epochs else "unfinished"


def _settings(config: Config, are_default: bool) -> dict[str, str]:
    """What differs from the defaults and does not follow from the data, or the rest."""
    defaults = Config()
    return {
        field.name: _said(getattr(config, field.name))
        for field in dataclasses.fields(Config)
        if are_default
        == (field.name in FOLLOWS or getattr(config, field.name) == getattr(defaults, field.name))
    }


def _said(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, Mapping):
        value = tuple(f"{name}={each}" for name, each in value.items())
    if isinstance(value, tuple):
        return printable(", ".join(map(str, value))) or "none"
    return printable(value)


def _row(section: _Section) -> list[Cell]:
    """A row of the table of runs."""
    run, summary = section.run, section.run.summary
    config = run.config
    chosen = ", ".join(f"{name} {value:g}" for name, value in config.hyperparameters.items())
    epochs = f"{config.num_epochs}"
    if section.state:
        epochs = f"{run.num_epochs_done} of {epochs}"
    figures = dict.fromkeys(FIGURES, Cell(""))
    num_train = seconds = device = Cell("")
    if summary is not None:
        figures = {name: _mean(summary.test, name) for name in FIGURES}
        num_train = Cell(f"{summary.num_train:,}", summary.num_train)
        seconds = Cell(f"{summary.train_seconds:,.0f}", summary.train_seconds)
        device = Cell(summary.device)
    return [
        Cell(section.name, note=section.state, href=f"#{section.id}"),
        Cell(config.model, note=printable(chosen)),
        Cell(config.network),
        Cell(printable(config.dataset)),
        num_train,
        Cell(f"{len(config.seeds)}", len(config.seeds)),
        Cell(epochs, run.num_epochs_done if section.state else config.num_epochs),
        *figures.values(),
        seconds,
        device,
        Cell(_time(run.written), run.written),
    ]


def _mean(test: Test, name: str) -> Cell:
    mean, half_width = mean_and_half_width(test[name])
    spread = "" if math.isnan(half_width) else f" ± {half_width:.{FIGURES[name]}f}"
    return Cell(f"{mean:.{FIGURES[name]}f}{spread}", mean)


def _tests(run: Run) -> Table | None:
    """The figures of each seed and each test set."""
    summary, seeds = run.summary, run.config.seeds
    if summary is None or (len(seeds) == 1 and not summary.other_tests):
        return None
    tests = {"test": summary.test, **summary.other_tests}
    rows = []
    for name, test in tests.items():
        said = name.replace("_", " ")
        for place, seed in enumerate(seeds):
            values = [
                Cell(f"{test[figure][place]:.{digits}f}", test[figure][place])
                for figure, digits in FIGURES.items()
            ]
            rows.append([Cell(said), Cell(f"{seed}", seed), *values])
        if len(seeds) > 1:
            rows.append(
                [Cell(said), Cell("mean", math.inf), *(_mean(test, each) for each in FIGURES)]
            )
    titles = [title.removeprefix("test ") for title in _FIGURE_TITLES.values()]
    return Table(("test set", "seed", *titles), rows)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
