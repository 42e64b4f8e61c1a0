"""The summary of a run, and the files that only a finished run has."""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.cli.errors import RunFailedError
from experiments.data.datasets import Dataset
from experiments.reports.statistics import mean_and_half_width
from experiments.runtime import processes
from experiments.runtime.files import write_json
from experiments.train import evaluation
from experiments.train.checkpoints import Checkpoint
from experiments.train.config import Config
from experiments.train.steps.setup import Setup


def summarize(
    setup: Setup, config: Config, data: Dataset, checkpoint: Checkpoint
) -> dict[str, Any]:
    """Tests a state; returns what `summary.json` says of it."""
    seeds = jax.numpy.asarray(config.seeds, np.int32)
    tests = [data.test, *data.other_tests.values()]
    figures, fitted = evaluation.evaluate(
        setup, checkpoint.state.params, seeds, data.validation, *tests
    )
    if not np.all(np.isfinite(figures)):
        raise RunFailedError(
            f"the predictions after step {checkpoint.step} are not finite: a lower learning rate "
            "may help"
        )
    progress = checkpoint.progress
    steps = checkpoint.step * len(config.seeds)
    return {
        "model": config.model,
        "network": config.network,
        "dataset": data.name,
        "num_train": len(data.train.labels),
        "num_test": len(data.test.labels),
        "seeds": list(config.seeds),
        **_test_figures(figures[0]),
        **_other_tests(dict(zip(data.other_tests, figures[1:], strict=True))),
        # With all digits, since `trained` predicts with it.
        **({} if fitted is None else {"fitted": np.asarray(fitted).tolist()}),
        "train_seconds": round(progress["train_seconds"], 3),
        "compile_seconds": round(progress["compile_seconds"], 3),
        "steps_per_second": round(steps / progress["train_seconds"], 2),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": versions(),
    }


def _test_figures(figures: evaluation.Metrics) -> dict[str, list[float]]:
    return {f"test_{name}": rounded(values) for name, values in figures._asdict().items()}


def _other_tests(figures: Mapping[str, evaluation.Metrics]) -> dict[str, Any]:
    """The figures of further test sets, of data that have any."""
    if not figures:
        return {}
    return {"other_tests": {name: _test_figures(found) for name, found in figures.items()}}


def write_results(savedir: Path, summary: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Writes the files that only a finished run has."""
    if not processes.is_first():
        return
    # Here, so that training need not wait until matplotlib is there.
    from experiments.reports import plots

    title = f"{summary['model']}, {summary['network']}, {summary['dataset']}"
    history = checkpoint.progress["history"]
    plots.learning_curves(history, title, savedir / "learning_curves.png")
    # Last: it tells that the run is finished.
    write_json(savedir / "summary.json", summary)


def result_line(summary: dict[str, Any]) -> str:
    """What a run comes to, in one line.

    >>> result_line({
    ...     "model": "dropmax", "network": "lenet", "dataset": "mnist", "num_train": 1000,
    ...     "seeds": [0, 1, 2], "test_error_percent": [3.4, 3.5, 3.6],
    ... })
    'dropmax, lenet, mnist (1,000 training examples): test error 3.50 % ± 0.25 (3 seeds)'
    """
    seeds = summary["seeds"]
    of_seeds = f"({len(seeds)} seeds)" if len(seeds) > 1 else f"(seed {seeds[0]})"
    others = "".join(
        f"; {name.replace('_', ' ')} {_percent(found['test_error_percent'])}"
        for name, found in summary.get("other_tests", {}).items()
    )
    return (
        f"{summary['model']}, {summary['network']}, {summary['dataset']} "
        f"({summary['num_train']:,} training examples): test error "
        f"{_percent(summary['test_error_percent'])} {of_seeds}{others}"
    )


def _percent(values: Sequence[float]) -> str:
    mean, half_width = mean_and_half_width(values)
    return f"{mean:.2f} %" + (f" ± {half_width:.2f}" if len(values) > 1 else "")


def versions() -> dict[str, str]:
    """The versions of what the numbers depend on."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
    }


def rounded(values: Any) -> list[float]:
    """The values as floats, rounded to the seven digits that float32 has."""
    # 3.77 is to be read as such, not as 3.7699999809265137.
    return [float(f"{value:.7g}") for value in np.asarray(values)]
