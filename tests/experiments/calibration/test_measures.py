import json
import math

import numpy as np
import pytest
import scipy.special
import sklearn.metrics

from experiments.calibration.measures import Measurement, measure_predictions
from experiments.calibration.predictions import Predictions


def drawn(seed: int, num_seeds: int = 2, count: int = 300) -> Predictions:
    """Made-up predictions, with scores that disagree."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(num_seeds, count, 10))
    return Predictions(
        scipy.special.log_softmax(logits, -1).astype(np.float32),
        rng.random((num_seeds, count)).astype(np.float32),
    )


def labels_of(predicted: Predictions) -> np.ndarray:
    """Labels that about half of the predictions match."""
    best = predicted.log_probs[0].argmax(-1)
    is_other = np.random.default_rng(0).random(len(best)) < 0.5
    return np.where(is_other, (best + 1) % 10, best).astype(np.int32)


def numpy_ece_percent(probs: np.ndarray, labels: np.ndarray) -> float:
    confidence, is_right = probs.max(-1), probs.argmax(-1) == labels
    places = np.digitize(confidence, np.linspace(0, 1, 16)[1:-1], right=True)
    gaps = [abs(np.sum((is_right - confidence)[places == place])) for place in range(15)]
    return 100 * float(np.sum(gaps)) / len(labels)


class TestMeasurement:
    def test_figures_are_scikit_learns_and_numpys(self) -> None:
        predicted = drawn(0)
        labels = labels_of(predicted)
        figures = measure_predictions(predicted, labels, {}).figures
        for seed, log_probs in enumerate(predicted.log_probs):
            probs = np.exp(log_probs.astype(float))
            error = 1 - sklearn.metrics.accuracy_score(labels, probs.argmax(-1))
            probs /= probs.sum(-1, keepdims=True)  # float32 leaves them 1e-7 off
            nll = sklearn.metrics.log_loss(labels, probs, labels=range(10))
            brier = np.mean(np.sum((probs - np.eye(10)[labels]) ** 2, -1))
            ece = numpy_ece_percent(probs, labels)
            order = np.argsort(probs.max(-1))
            right = probs.argmax(-1) == labels
            gaps = [abs(np.sum((right - probs.max(-1))[b])) for b in np.split(order, 15)]
            adaptive = 100 * np.sum(gaps) / 300
            actual = {name: values[seed] for name, values in figures.items()}
            expected = {
                "error_percent": 100 * error,
                "nll": nll,
                "ece_percent": ece,
                "adaptive_ece_percent": adaptive,
                "brier": brier,
            }
            assert actual == pytest.approx(expected, rel=1e-4)

    def test_bins_hold_all_seeds(self) -> None:
        predicted = drawn(0)
        labels = labels_of(predicted)
        bins = measure_predictions(predicted, labels, {}).bins
        assert sum(bins["counts"]) == 600
        right = np.dot(bins["counts"], bins["accuracy"])
        assert right == pytest.approx(np.sum(predicted.log_probs.argmax(-1) == labels), rel=1e-5)

    def test_detection_is_scikit_learns(self) -> None:
        test, other = drawn(0), drawn(1, count=200)
        labels = labels_of(test)
        measured = measure_predictions(test, labels, {"other": other})
        probs, others = np.exp(test.log_probs), np.exp(other.log_probs)
        entropy, of_other = (-np.sum(p * np.log(p), -1) for p in (probs, others))
        assert test.mutual_information is not None
        assert other.mutual_information is not None
        for name, inside, outside in (
            ("predictive_entropy", entropy, of_other),
            ("mutual_information", test.mutual_information, other.mutual_information),
        ):
            score = measured.scores[name]
            for seed in range(2):
                is_error = probs[seed].argmax(-1) != labels
                expected = sklearn.metrics.roc_auc_score(is_error, inside[seed])
                assert score.auroc["errors"][seed] == pytest.approx(expected, abs=1e-4)
                both = np.concatenate([inside[seed], outside[seed]])
                expected = sklearn.metrics.roc_auc_score(np.arange(500) >= 300, both)
                assert score.auroc["other"][seed] == pytest.approx(expected, abs=1e-4)
                risks = np.cumsum(is_error[np.argsort(inside[seed])]) / np.arange(1, 301)
                assert score.aurc_percent[seed] == pytest.approx(100 * risks.mean(), rel=1e-3)

    def test_the_curve_ends_at_the_error(self) -> None:
        predicted = drawn(0)
        measured = measure_predictions(predicted, labels_of(predicted), {})
        for score in measured.scores.values():
            assert len(score.risk_percent) == 100
            error = np.mean(measured.figures["error_percent"])
            assert score.risk_percent[-1] == pytest.approx(error, rel=1e-4)

    def test_of_few_images_without_errors_as_json_and_back(self) -> None:
        predicted = drawn(0, num_seeds=1, count=3)
        labels = predicted.log_probs[0].argmax(-1)
        measured = measure_predictions(predicted, labels, {})
        assert math.isnan(measured.scores["predictive_entropy"].auroc["errors"][0])
        text = json.dumps(measured.to_json(), allow_nan=False)
        back = Measurement.from_json(json.loads(text))
        assert str(back) == str(measured)
