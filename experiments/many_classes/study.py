"""Trains the alternatives as long as the softmax needs, and compares them on validation data."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.data import datasets
from experiments.data.datasets import Dataset
from experiments.many_classes.alternatives import ALTERNATIVES
from experiments.many_classes.steps import params_at
from experiments.many_classes.tasks import Task, config_of
from experiments.reports.tables import cell, line, means
from experiments.runtime.files import write_json, write_text
from experiments.train import evaluation
from experiments.train.steps.setup import make_setup

_FIGURES = ("error_percent", "nll")

Figures = Mapping[str, Sequence[float]]


def study(
    tasks: Mapping[str, Task],
    data: Mapping[str, Dataset],
    num_seeds: int,
    savedir: Path,
    say: Callable[[str], None],
) -> None:
    """Trains what is missing, and writes `alternatives.md` whenever a task is done.

    Args:
        tasks: What to train on, by name.
        data: Of the tasks.
        num_seeds: Models of each alternative.
        savedir: Folder of the table, and of the figures found so far.
        say: Told of each alternative.
    """
    (savedir / "alternatives").mkdir(parents=True, exist_ok=True)
    found: dict[tuple[str, str], Figures] = {}
    for name, task in tasks.items():
        for number, alternative in enumerate(ALTERNATIVES):
            file = savedir / "alternatives" / f"{data[name].name.replace(':', '_')}_{number}.json"
            figures = _figures(task, data[name], alternative, num_seeds, file)
            found[name, alternative] = figures
            means_of = means(figures)
            say(
                f"{name}, {alternative}: validation error {cell(means_of, 'error_percent')} %, "
                f"NLL {cell(means_of, 'nll', 3)}"
            )
        write_text(savedir / "alternatives.md", _to_markdown(found, num_seeds))


def _figures(task: Task, data: Dataset, alternative: str, num_seeds: int, file: Path) -> Figures:
    """An alternative's figures on validation data, of each seed; from the file if it has them."""
    _, method = ALTERNATIVES[alternative]
    config = datasets.configured(config_of(task, 1, num_seeds), data)
    identity = {**config.identity(), "alternative": alternative}
    kept = _kept(file, identity)
    if kept is not None:
        return kept
    setup = dataclasses.replace(make_setup(config, len(data.train.labels)), method=method)
    setup = dataclasses.replace(setup, network=setup.network.clone(heads=method.heads))
    num_steps = setup.steps_per_epoch * config.num_epochs
    ((_, params),) = params_at(setup, data.train, num_seeds, [num_steps])
    seeds = np.arange(num_seeds, dtype=np.int32)
    (metrics,), _ = evaluation.evaluate(setup, params, seeds, data.validation, data.validation)
    figures = {name: np.asarray(getattr(metrics, name), float).tolist() for name in _FIGURES}
    write_json(file, {"of": identity, "figures": figures})
    jax.clear_caches()
    return figures


def _kept(file: Path, identity: Mapping[str, object]) -> Figures | None:
    """Figures that were found before; None if there are none, or of something else."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        figures: Figures = values["figures"]
        return figures if values["of"] == identity else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _to_markdown(found: Mapping[tuple[str, str], Figures], num_seeds: int) -> str:
    done = list(dict.fromkeys(task for task, _ in found))
    columns = ["method", "what is different", *(f"{t}: error, %; NLL" for t in done)]
    lines = [line(columns), line(["---"] * len(columns))]
    for alternative, (text, _) in ALTERNATIVES.items():
        of_tasks = [means(found[task, alternative]) for task in done]
        cells = (f"{cell(each, 'error_percent')}; {cell(each, 'nll', 3)}" for each in of_tasks)
        lines.append(line([f"`{alternative}`", text, *cells]))
    note = f"On validation data; {num_seeds} seeds, ± is half a 95 % confidence interval.\n"
    return "\n".join([note, *lines]) + "\n"
