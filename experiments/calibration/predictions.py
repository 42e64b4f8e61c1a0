"""The ways to predict with trained models that the calibration experiment compares."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dropmax_jax import METHODS, Heads, metrics
from dropmax_jax.metrics import mean_log_probs
from experiments.data.split import Split
from experiments.train.steps.training import seed_keys
from experiments.trained import TrainedRun

NUM_SAMPLES = METHODS["mc_dropout"].num_samples
"""How many samples each sampling method averages: the same number, to be fair."""


class Predictions(NamedTuple):
    """What a method predicts of N images.

    Attributes:
        log_probs: `[seeds, N, K]`.
        mutual_information: How much samples disagree, `[seeds, N]`; None for a method without.
    """

    log_probs: np.ndarray
    mutual_information: np.ndarray | None = None


Predictor = Callable[[Split], dict[str, Predictions]]
"""Predicts images, by every method that one trained model serves."""


def softmax(run: TrainedRun, validation: Split) -> Predictor:
    """Softmax, and the same with a temperature fitted on validation data to each seed's model."""
    scaling = METHODS["temperature_scaling"]
    assert scaling.fit is not None
    labels = jnp.asarray(validation.labels)
    temperatures = jax.vmap(scaling.fit, (0, None))(run.heads(validation.images), labels)

    def predict(images: Split) -> dict[str, Predictions]:
        heads = run.heads(images.images)
        plain = jax.vmap(METHODS["softmax"].log_probs)(heads)
        scaled = jax.vmap(scaling.log_probs)(heads, temperatures)
        return {
            "softmax": Predictions(np.asarray(plain)),
            "temperature_scaling": Predictions(np.asarray(scaled)),
        }

    return predict


def mc_dropout(run: TrainedRun, _: Split) -> Predictor:
    """Softmax averaged over forward passes with dropout."""

    def predict(images: Split) -> dict[str, Predictions]:
        heads = run.heads(images.images, NUM_SAMPLES)
        return {
            "mc_dropout": _stack([_average(_softmax_log_probs(each)) for each in _of_seeds(heads)])
        }

    return predict


def dropmax(run: TrainedRun, _: Split) -> Predictor:
    """DropMax with the mean mask, and averaged over masks drawn from the prior."""
    method = METHODS["dropmax"]

    def predict(images: Split) -> dict[str, Predictions]:
        heads = run.heads(images.images)
        keys = [seed_keys(int(seed)).evaluation for seed in run.seeds]
        return {
            "dropmax": Predictions(np.asarray(jax.vmap(method.log_probs)(heads))),
            "dropmax_monte_carlo": _stack(
                [
                    _average(_sample_dropmax(key, each))
                    for key, each in zip(keys, _of_seeds(heads), strict=True)
                ]
            ),
        }

    return predict


PREDICTORS: Mapping[str, Callable[[TrainedRun, Split], Predictor]] = {
    "softmax": softmax,
    "mc_dropout": mc_dropout,
    "dropmax": dropmax,
}
"""By the name of the model that is trained: functions of the run and its validation set."""


@jax.jit
def _softmax_log_probs(heads: Any) -> Array:
    return METHODS["softmax"].log_probs(heads)


@jax.jit
def _sample_dropmax(key: Array, heads: Any) -> Array:
    sample_log_probs = METHODS["dropmax"].sample_log_probs
    assert sample_log_probs is not None
    return sample_log_probs(key, heads, NUM_SAMPLES)


@jax.jit
def _average(sampled_log_probs: Array) -> tuple[Array, Array]:
    return mean_log_probs(sampled_log_probs), metrics.mutual_information(sampled_log_probs)


def _of_seeds(heads: Heads) -> list[Heads]:
    return [jax.tree.map(lambda head, i=i: head[i], heads) for i in range(len(heads.logits))]


def _stack(averages: list[tuple[Array, Array]]) -> Predictions:
    """Puts the seeds' averages into one array each."""
    log_probs, information = zip(*averages, strict=True)
    return Predictions(np.stack(log_probs), np.stack(information))
