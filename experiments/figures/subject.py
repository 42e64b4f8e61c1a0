"""What figures are drawn of: a run's models, their predictions of the test set, and its metrics."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dropmax_jax import Heads
from experiments import trained
from experiments.cli.errors import UserError, printable
from experiments.data.catalogue import row_of
from experiments.data.datasets import Dataset
from experiments.reports.drawing import Figure
from experiments.runtime.files import read_json
from experiments.trained import TrainedRun


class Subject(NamedTuple):
    """A run, and what its models make of the test set.

    Attributes:
        run: The models.
        data: What they were trained on and predict.
        heads: Of the first seed's model, NumPy `[N, K]`.
        log_probs: The run's own predictions, `[seeds, N, K]`.
        history: The objects of `metrics.jsonl`.
        jax_version: That trained it, or None if the run is unfinished.
    """

    run: TrainedRun
    data: Dataset
    heads: Heads
    log_probs: np.ndarray
    history: Sequence[dict[str, Any]]
    jax_version: str | None

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.run.config.model

    @property
    def strokes(self) -> bool:
        """Whether the images show light strokes, which are drawn as dark ink."""
        return row_of(self.run.config.dataset).strokes

    @property
    def class_names(self) -> Sequence[str]:
        """Of K classes."""
        return self.run.config.class_names

    @property
    def temperature(self) -> float:
        """Of the relaxed masks that the method draws."""
        method, config = self.run.setup.method, self.run.config
        return float((method.hyperparameters | dict(config.hyperparameters))["temperature"])


class Drawn(NamedTuple):
    """A figure, and in Markdown what it shows."""

    figure: Figure
    caption: str


def load(folder: Path, mnist_path: str | None = None, data_path: str | None = None) -> Subject:
    """Reads a run and its data, and predicts the test set; see `trained.load_data`."""
    run = trained.load(folder)
    return _predicted(run, trained.load_data(run, mnist_path, data_path))


def load_beside(folder: Path, one: Subject) -> Subject:
    """Reads another run of the same data.

    Raises:
        UserError: There is no such run, or it is of other data.
    """
    run = trained.load(folder)
    if run.config.data_fingerprint != one.run.config.data_fingerprint:
        raise UserError(
            f"the runs in {folder} and {one.run.folder} are of different data: compare runs that "
            "were trained and tested on the same images"
        )
    return _predicted(run, one.data)


def _predicted(run: TrainedRun, data: Dataset) -> Subject:
    heads = jax.tree.map(lambda head: np.asarray(head[0]), run.heads(data.test.images))
    return Subject(
        run,
        data,
        heads,
        run.log_probs(data.test.images),
        _history(run.folder / "metrics.jsonl"),
        _jax_version(run.folder),
    )


def _history(file: Path) -> list[dict[str, Any]]:
    """What a run has told of its epochs; nothing if the file is damaged or gone."""
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []


def _jax_version(folder: Path) -> str | None:
    try:
        return str(read_json(folder / "summary.json")["versions"]["jax"])
    except (UserError, LookupError, TypeError):
        return None


def names_of(subjects: Sequence[Subject]) -> list[str]:
    """What to call runs that stand side by side: by their methods, or by their folders too."""
    methods = [subject.method for subject in subjects]
    if len(set(methods)) == len(methods):
        return methods
    return [f"{subject.method} ({_folder_name(subject)})" for subject in subjects]


def source(subject: Subject, all_seeds: bool) -> str:
    """Which run a figure is of, in a sentence.

    Args:
        subject: The run.
        all_seeds: Whether the figure is of all its seeds, or of the first.
    """
    config, data = subject.run.config, subject.data
    seeds = list(config.seeds) if all_seeds else list(config.seeds[:1])
    version = subject.jax_version
    by = "unfinished" if version is None else f"trained with jax {printable(version)}"
    return (
        f"Run `{_folder_name(subject)}`: {config.model}, {config.network}, "
        f"{in_markdown(config.dataset)}, {len(data.train.labels):,} training and "
        f"{len(data.test.labels):,} test images, seed{'s' * (len(seeds) > 1)} "
        f"{', '.join(map(str, seeds))}, {by}."
    )


def _folder_name(subject: Subject) -> str:
    return printable(subject.run.folder.absolute().name).replace("`", "'")


def in_markdown(text: str) -> str:
    r"""A text as Markdown shows it.

    Example:
        >>> print(in_markdown("a_b <c>"))
        a\_b \<c\>
    """
    escaped = "".join(f"\\{letter}" if letter in r"\`*_{}[]<>#|!$&" else letter for letter in text)
    return printable(escaped) if not escaped.isprintable() else escaped
