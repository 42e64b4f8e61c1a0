"""What `--record_test` adds to an epoch: how well the networks predict training and test images.

They predict as in a test, with dropout off and DropMax's mean mask, but without what the method
samples or fits after training. So both numbers of a pair are the same quantity, unlike the loss
terms of an epoch, which are of noisy networks and of masks that know the label.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array

from dropmax_jax import Heads, Method, metrics
from experiments.data.datasets import Dataset
from experiments.data.split import Split
from experiments.train import evaluation
from experiments.train.steps import feeds
from experiments.train.steps.setup import Setup

_FIRST = 10
_PARTS = 40
MOST_TRAIN = 10_000
"""So many training images are predicted at most, evenly spaced: more would say the same."""

Record = Callable[[Any, Array], dict[str, np.ndarray]]
"""`train_nll`, `test_nll` and `test_error_percent`, `[seeds]` each, of parameters and seeds."""


def is_recorded(epoch: int, num_epochs: int) -> bool:
    """Whether an epoch, counted from 1, is recorded: the first ten, then every fortieth part.

    On a CPU, LeNet takes longer to predict 10,000 test images than to train on 1,000. Short epochs
    are validated by the same rule.

    Example:
        >>> [epoch for epoch in range(1, 201) if is_recorded(epoch, 200)][8:13]
        [9, 10, 15, 20, 25]
    """
    return epoch <= _FIRST or epoch == num_epochs or epoch % max(1, num_epochs // _PARTS) == 0


def make_record(setup: Setup, data: Dataset) -> Record:
    """Spreads the images over the devices, and returns the function that predicts them."""
    predict = evaluation.predictor(setup.network)

    def spread(split: Split) -> evaluation.EvaluationSet:
        return evaluation.shard_images(split, setup.network, keep=feeds.fits(split))

    train, test = spread(train_part(data.train)), spread(data.test)

    def record(params: Any, seeds: Array) -> dict[str, np.ndarray]:
        def log_probs(heads: Heads) -> Array:
            return _log_probs(setup.method, heads)

        train_nll, _ = _measure(predict(params, seeds, train, log_probs), train.labels)
        test_nll, test_error = _measure(predict(params, seeds, test, log_probs), test.labels)
        named = {
            "train_nll": train_nll,
            "test_nll": test_nll,
            "test_error_percent": 100 * test_error,
        }
        return {name: np.asarray(values, float) for name, values in named.items()}

    return record


def train_part(train: Split) -> Split:
    """The training images that are predicted: all, or evenly spaced ones of very many."""
    size = len(train.labels)
    rows = np.arange(min(size, MOST_TRAIN)) * size // min(size, MOST_TRAIN)
    return Split(train.images[rows], train.labels[rows])


@functools.partial(jax.jit, static_argnums=0)
def _log_probs(method: Method, heads: Heads) -> Array:
    return jax.vmap(method.log_probs)(heads)


@jax.jit
def _measure(log_probs: Array, labels: Array) -> tuple[Array, Array]:
    """The cross-entropy in nats and the error rate, `[seeds]` each."""
    over_seeds = (0, None)
    nll = jax.vmap(metrics.nll, over_seeds)(log_probs, labels)
    return nll, jax.vmap(metrics.error_rate, over_seeds)(log_probs, labels)
