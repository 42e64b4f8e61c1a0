"""Compares methods as classes are added: `python -m experiments.many_classes`.

The softmax and what is done to improve it, the paper's DropMax and the balanced one learn from
twelve examples of each class, for as long as the softmax needs and for four times as long.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli import command, jobs_flag
from experiments.cli.kinds import PATH, choice, integer, several
from experiments.many_classes.tasks import LENGTHS, TASKS

if TYPE_CHECKING:
    from experiments.data.datasets import Dataset
    from experiments.train import side_by_side

FLAGS = command.Flags()
_PARTS = FLAGS.define(
    "parts",
    ["comparison"],
    "the comparison of methods, a look at the course of a training, or alternatives to the "
    "balanced loss on validation data",
    several(choice(("comparison", "course", "alternatives"))),
)
_TASKS = FLAGS.define(
    "tasks",
    ["glyphs:10", "glyphs:30", "glyphs:62", "glyphs:200"],
    "data and numbers of classes",
    several(choice(tuple(TASKS))),
)
_NUM_SEEDS = FLAGS.define(
    "num_seeds", 5, "models of each method; the course is of one", integer(2, 1000)
)
_JOBS = jobs_flag.define(FLAGS)
_SAVEDIR = FLAGS.define(
    "savedir", Path("results/many_classes"), "folder of the tables, the picture and the runs", PATH
)


def main() -> None:
    """Runs the command."""
    savedir = _SAVEDIR.value
    command.set_up_jax()
    # Only now, so that --help and mistakes in flags are answered at once.
    from experiments.data import datasets
    from experiments.many_classes.tasks import config_of
    from experiments.runtime.files import locked_folder
    from experiments.train import side_by_side

    # A mistake should not show after hours.
    side_by_side.number_of_jobs(_JOBS.value)
    tasks = {name: TASKS[name] for name in TASKS if name in _TASKS.value}
    data = {name: datasets.load_aloud(config_of(task, 1, 1)) for name, task in tasks.items()}
    runs = _runs(data, savedir) if "comparison" in _PARTS.value else []
    parts: dict[str, Callable[..., Path]] = {
        "course": _course,
        "alternatives": _alternatives,
        "comparison": functools.partial(_comparison, runs),
    }
    with locked_folder(savedir):
        for part, write in parts.items():
            if part in _PARTS.value:
                command.print_report(write(data, savedir))


def _comparison(
    runs: "Sequence[side_by_side.Planned]", data: Mapping[str, "Dataset"], savedir: Path
) -> Path:
    from experiments.many_classes import comparison, report
    from experiments.train import side_by_side

    rows: list[comparison.Row] = []
    with side_by_side.training(runs, _JOBS.value) as train:
        for name, own in data.items():
            folder = _folder(savedir, name)
            for length in LENGTHS:
                rows += comparison.compare(
                    TASKS[name], length, _NUM_SEEDS.value, own, folder, train, _say
                )
                report.write(rows, savedir)
    return savedir / "many_classes.md"


def _runs(data: Mapping[str, "Dataset"], savedir: Path) -> "list[side_by_side.Planned]":
    """The comparison's runs; raises `UserError` if one cannot be made, or gone on with."""
    from experiments.many_classes import comparison

    num_seeds = _NUM_SEEDS.value
    runs = [
        comparison.runs_of(TASKS[name], num_seeds, own, _folder(savedir, name))
        for name, own in data.items()
    ]
    return list(itertools.chain(*runs))


def _course(data: Mapping[str, "Dataset"], savedir: Path) -> Path:
    from experiments.many_classes import course

    records = []
    for name, own in data.items():
        records += course.records(TASKS[name], own)
        _say(f"the course of {name}")
        course.write(records, savedir)
    return savedir / "course.md"


def _alternatives(data: Mapping[str, "Dataset"], savedir: Path) -> Path:
    from experiments.many_classes import study

    tasks = {name: TASKS[name] for name in data}
    study.study(tasks, data, _NUM_SEEDS.value, savedir, _say)
    return savedir / "alternatives.md"


def _folder(savedir: Path, name: str) -> Path:
    return savedir / name.replace(":", "_")


def _say(line: str) -> None:
    print(f"done: {line}", flush=True)


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
