"""What is trained, and for how long; commands read this before anything slow is imported."""

import dataclasses
from typing import Any, NamedTuple

from experiments.train.config import Config


class Task(NamedTuple):
    """Data of a number of classes, twelve training examples each.

    Attributes:
        dataset: A row of the catalogue.
        num_classes: Classes to take.
        batch_size: Examples of a step.
        num_epochs: After so many, the softmax has just converged.
        network: What is trained.
        learning_rate: Of Adam, at first.
        test: What the test set holds.
    """

    dataset: str
    num_classes: int
    batch_size: int
    num_epochs: int
    network: str = "lenet"
    learning_rate: float = 1e-3
    test: str = "unseen faces"


TASKS = {
    "glyphs:10": Task("glyphs", 10, 20, 60),
    "glyphs:30": Task("glyphs", 30, 50, 60),
    "glyphs:62": Task("glyphs", 62, 100, 60),
    "glyphs:200": Task("glyphs", 200, 100, 30),
    "glyphs:561": Task("glyphs", 561, 100, 20),
    "languages:180": Task("languages", 180, 100, 60, "text", 3e-3, "unseen names"),
}
LENGTHS = (1, 4)
"""Each task is trained for its own number of epochs, and for four times as many."""


def config_of(task: Task, length: int, num_seeds: int, **own: Any) -> Config:
    """The configuration of a run, but for what `own` says."""
    config = Config(
        dataset=task.dataset,
        num_classes=task.num_classes,
        batch_size=task.batch_size,
        num_epochs=task.num_epochs * length,
        network=task.network,
        learning_rate=task.learning_rate,
        train_per_class=12,
        schedule="cosine",
        seeds=tuple(range(num_seeds)),
    )
    return dataclasses.replace(config, **own)
