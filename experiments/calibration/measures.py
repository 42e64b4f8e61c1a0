"""What the calibration experiment measures of a trained model's predictions."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dropmax_jax import metrics
from experiments.calibration import predictions
from experiments.calibration.predictions import Predictions
from experiments.data.datasets import Dataset
from experiments.data.forms import variants
from experiments.trained import TrainedRun

NUM_BINS = 15
COVERAGE_PERCENT = tuple(range(1, 101))
"""The points of risk-coverage curves that are kept."""


@dataclasses.dataclass(frozen=True)
class Score:
    """How well a score of uncertainty detects errors and unfamiliar inputs.

    Attributes:
        auroc: For `errors` and each name of `UNFAMILIAR`, a value per seed; NaN where there is
            nothing to detect.
        aurc_percent: Area under the risk-coverage curve, a value per seed.
        risk_percent: That curve, at `COVERAGE_PERCENT`, the mean over seeds.
    """

    auroc: Mapping[str, list[float]]
    aurc_percent: list[float]
    risk_percent: list[float]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one method's predictions are worth on one variant of the images.

    Attributes:
        figures: `error_percent`, `nll`, `ece_percent`, `adaptive_ece_percent` and `brier`, a value
            per seed each.
        bins: `counts`, `confidence` and `accuracy` of the predictions of all seeds together, a
            value per bin each.
        scores: `predictive_entropy`, and `mutual_information` where the method samples.
    """

    figures: Mapping[str, list[float]]
    bins: Mapping[str, list[float]]
    scores: Mapping[str, Score]

    def to_json(self) -> dict[str, Any]:
        """As JSON values, null for NaN."""
        values: dict[str, Any] = _map_leaves(
            lambda value: None if math.isnan(value) else value, dataclasses.asdict(self)
        )
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Measurement":
        """The inverse of `to_json`."""
        values = _map_leaves(lambda value: math.nan if value is None else value, values)
        scores = {name: Score(**score) for name, score in values["scores"].items()}
        return cls(values["figures"], values["bins"], scores)


Measurements = Mapping[str, Mapping[str, Measurement]]
"""By the variant of the images, and by the method."""


def _map_leaves(change: Callable[[Any], Any], values: Any) -> Any:
    # Not jax.tree.map, which sorts keys, and tables and pictures show them in their order.
    if isinstance(values, Mapping):
        return {key: _map_leaves(change, value) for key, value in values.items()}
    if isinstance(values, list):
        return [_map_leaves(change, value) for value in values]
    return change(values)


def measure(run: TrainedRun, images: Dataset) -> dict[str, Measurement]:
    """Measures every method that a trained model serves, on the test set of its data."""
    predict = predictions.PREDICTORS[run.config.model](run, images.validation)
    test = predict(images.test)
    unfamiliar = {
        kind: predict(variants.unfamiliar(images.test, kind)) for kind in variants.UNFAMILIAR
    }
    return {
        method: measure_predictions(
            test[method],
            images.test.labels,
            {kind: methods[method] for kind, methods in unfamiliar.items()},
        )
        for method in test
    }


def measure_predictions(
    test: Predictions, labels: np.ndarray, unfamiliar: Mapping[str, Predictions]
) -> Measurement:
    """Measures predictions.

    Args:
        test: Of N test images.
        labels: Int `[N]`.
        unfamiliar: Of other images, by what they are.
    """
    is_error = np.argmax(test.log_probs, -1) != labels
    test_scores = _scores(test)
    unfamiliar_scores = {kind: _scores(other) for kind, other in unfamiliar.items()}
    scores = {}
    for name, values in test_scores.items():
        auroc = {"errors": _aurocs(values, is_error)}
        for kind, others in unfamiliar_scores.items():
            both = np.concatenate([values, others[name]], axis=-1)
            is_unfamiliar = np.arange(both.shape[-1]) >= values.shape[-1]
            auroc[kind] = _aurocs(both, np.broadcast_to(is_unfamiliar, both.shape))
        curves = np.asarray(_risk_coverage(values, is_error), float)
        scores[name] = Score(auroc, _floats(100 * curves.mean(-1)), _kept(100 * curves.mean(0)))
    figures = {name: _floats(values) for name, values in _figures(test.log_probs, labels).items()}
    seeds_labels = np.broadcast_to(labels, test.log_probs.shape[:-1])
    bins = metrics.reliability_bins(test.log_probs, seeds_labels, NUM_BINS)._asdict()
    return Measurement(figures, {name: _floats(values) for name, values in bins.items()}, scores)


@jax.jit
def _figures(log_probs: Array, labels: Array) -> dict[str, Array]:
    def one_seed(log_probs: Array) -> dict[str, Array]:
        calibration_error = metrics.expected_calibration_error
        adaptive_error = metrics.adaptive_calibration_error
        return {
            "error_percent": 100 * metrics.error_rate(log_probs, labels),
            "nll": metrics.nll(log_probs, labels),
            "ece_percent": 100 * calibration_error(log_probs, labels, NUM_BINS),
            "adaptive_ece_percent": 100 * adaptive_error(log_probs, labels, NUM_BINS),
            "brier": metrics.brier(log_probs, labels),
        }

    return jax.vmap(one_seed)(log_probs)


def _scores(predicted: Predictions) -> dict[str, np.ndarray]:
    """The scores of uncertainty `[seeds, N]` that predictions offer."""
    scores = {"predictive_entropy": np.asarray(metrics.predictive_entropy(predicted.log_probs))}
    if predicted.mutual_information is not None:
        scores["mutual_information"] = predicted.mutual_information
    return scores


def _aurocs(scores: np.ndarray, is_positive: np.ndarray) -> list[float]:
    return _floats(_auroc(scores, jnp.asarray(is_positive)))


_auroc = jax.jit(jax.vmap(metrics.auroc))
_risk_coverage = jax.jit(jax.vmap(metrics.risk_coverage))


def _kept(curve: np.ndarray) -> list[float]:
    places = [math.ceil(len(curve) * percent / 100) - 1 for percent in COVERAGE_PERCENT]
    return _floats(curve[places])


def _floats(values: Any) -> list[float]:
    return [float(value) for value in values]
