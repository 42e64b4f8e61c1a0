import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from dropmax_jax import metrics
from tests.dropmax_jax import oracle

LOG_PROBS = oracle.log_softmax(np.random.default_rng(0).normal(scale=2.0, size=(1000, 7)))
PROBS = np.exp(LOG_PROBS)
LABELS = np.array([np.random.default_rng(i).choice(7, p=p) for i, p in enumerate(PROBS)])
SCALARS: list[Callable[..., jax.Array]] = [
    metrics.error_rate,
    metrics.nll,
    metrics.brier,
    metrics.expected_calibration_error,
    metrics.adaptive_calibration_error,
]


def test_error_rate_is_one_minus_scikit_learns_accuracy() -> None:
    accuracy = sklearn.metrics.accuracy_score(LABELS, PROBS.argmax(-1))
    np.testing.assert_allclose(metrics.error_rate(LOG_PROBS, LABELS), 1.0 - accuracy, rtol=1e-5)


def test_nll_is_scikit_learns_log_loss() -> None:
    expected = sklearn.metrics.log_loss(LABELS, PROBS, labels=range(7))
    np.testing.assert_allclose(metrics.nll(LOG_PROBS, LABELS), expected, rtol=1e-5)


def test_brier_is_scikit_learns_for_two_classes_and_the_formula_for_more() -> None:
    two = oracle.log_softmax(LOG_PROBS[:, :2])
    labels = LABELS % 2
    expected = 2.0 * sklearn.metrics.brier_score_loss(labels, np.exp(two)[:, 1])
    np.testing.assert_allclose(metrics.brier(two, labels), expected, rtol=1e-5)
    expected = np.mean(np.sum((PROBS - np.eye(7)[LABELS]) ** 2, axis=-1))
    np.testing.assert_allclose(metrics.brier(LOG_PROBS, LABELS), expected, rtol=1e-5)


def calibration_error(bins: Any) -> float:
    """The definition, over a list of the examples' indices in each bin."""
    correct, confidence = PROBS.argmax(-1) == LABELS, PROBS.max(-1)
    return float(
        sum(
            len(b) / len(LABELS) * abs(correct[b].mean() - confidence[b].mean())
            for b in bins
            if len(b)
        )
    )


@pytest.mark.parametrize("num_bins", [1, 2, 15, 100])
def test_calibration_errors_are_their_definitions(num_bins: int) -> None:
    confidence = PROBS.max(-1)
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    equal_width = [
        np.flatnonzero((confidence > low) & (confidence <= high))
        for low, high in itertools.pairwise(edges)
    ]
    ranks = np.argsort(confidence)
    equal_mass = [ranks[np.arange(1000) * num_bins // 1000 == b] for b in range(num_bins)]
    actual = metrics.expected_calibration_error(LOG_PROBS, LABELS, num_bins)
    np.testing.assert_allclose(actual, calibration_error(equal_width), rtol=1e-4)
    actual = metrics.adaptive_calibration_error(LOG_PROBS, LABELS, num_bins)
    np.testing.assert_allclose(actual, calibration_error(equal_mass), rtol=1e-4)


def test_calibration_errors_tell_true_probabilities_from_overconfident_ones() -> None:
    # The labels were drawn from the probabilities.
    for metric in (metrics.expected_calibration_error, metrics.adaptive_calibration_error):
        overconfident = oracle.log_softmax(4.0 * LOG_PROBS)
        assert metric(LOG_PROBS, LABELS) < 0.06
        assert metric(overconfident, LABELS) > 2.0 * metric(LOG_PROBS, LABELS)


def test_more_bins_than_examples() -> None:
    few = LOG_PROBS[:3], LABELS[:3]
    gaps = np.abs((PROBS[:3].argmax(-1) == LABELS[:3]) - PROBS[:3].max(-1))
    actual = metrics.adaptive_calibration_error(*few, num_bins=15)
    np.testing.assert_allclose(actual, gaps.mean(), rtol=1e-5)


def test_reliability_bins_count_every_example_once() -> None:
    bins = metrics.reliability_bins(LOG_PROBS, LABELS, 10)
    assert bins.counts.sum() == 1000
    assert bins.counts[0] == 0  # the largest of seven probabilities is above 1/7
    assert bins.confidence[0] == bins.accuracy[0] == 0.0
    edges = np.linspace(0.0, 1.0, 11)
    filled = np.asarray(bins.counts) > 0
    assert np.all((bins.confidence > edges[:-1])[filled])
    assert np.all((bins.confidence <= edges[1:] + 1e-6)[filled])
    accuracy = np.sum(bins.counts * bins.accuracy) / 1000
    np.testing.assert_allclose(accuracy, 1.0 - metrics.error_rate(LOG_PROBS, LABELS), rtol=1e-5)


def test_calibration_of_a_million_is_not_rounded() -> None:
    """float32 confidences are 0.007 off if they are added up one after the other."""
    confidence = np.full(1_000_000, 0.98, np.float32)
    log_probs = np.log(np.stack([confidence, 1.0 - confidence], axis=-1))
    labels = np.arange(1_000_000) % 50 == 0
    bins = metrics.reliability_bins(log_probs, labels.astype(int))
    np.testing.assert_allclose([bins.confidence[14], bins.accuracy[14]], 0.98, atol=1e-6)
    assert metrics.expected_calibration_error(log_probs, labels.astype(int)) < 1e-6


def test_bin_edges_belong_to_the_bin_below() -> None:
    log_probs = np.log([[0.5, 0.5], [0.75, 0.25]])
    bins = metrics.reliability_bins(log_probs, np.array([0, 0]), num_bins=4)
    np.testing.assert_array_equal(bins.counts, [0, 1, 1, 0])


def test_certain_predictions() -> None:
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.eye(4))
    right, wrong = np.arange(4), (np.arange(4) + 1) % 4
    for metric in SCALARS:
        assert metric(log_probs, right) == 0.0
    assert metrics.error_rate(log_probs, wrong) == 1.0
    assert metrics.nll(log_probs, wrong) == jnp.inf
    assert metrics.brier(log_probs, wrong) == 2.0
    assert metrics.expected_calibration_error(log_probs, wrong) == 1.0
    assert metrics.adaptive_calibration_error(log_probs, wrong) == 1.0
    np.testing.assert_array_equal(metrics.predictive_entropy(log_probs), 0.0)


def test_entropy_is_the_formula_and_log_k_at_most() -> None:
    entropy = metrics.predictive_entropy(LOG_PROBS)
    np.testing.assert_allclose(entropy, -np.sum(PROBS * LOG_PROBS, axis=-1), rtol=1e-5)
    uniform = metrics.predictive_entropy(jnp.full((7,), -np.log(7.0)))
    np.testing.assert_allclose(uniform, np.log(7.0), rtol=1e-6)


def test_entropy_has_a_gradient_where_a_class_is_ruled_out() -> None:
    gradient = jax.grad(metrics.predictive_entropy)(jnp.array([np.log(0.5), np.log(0.5), -np.inf]))
    assert np.all(np.isfinite(gradient))


SAMPLES = oracle.log_softmax(np.random.default_rng(0).normal(scale=3, size=(7, 6, 5)))


def test_mean_of_probabilities() -> None:
    np.testing.assert_allclose(
        metrics.mean_log_probs(jnp.asarray(SAMPLES, jnp.float32)),
        np.log(np.exp(SAMPLES).mean(0)),
        rtol=1e-5,
        atol=1e-6,
    )


def test_mean_of_probabilities_that_a_float_cannot_hold() -> None:
    samples = jnp.array([[-1e4, 0.0], [-1e4, 0.0]])
    np.testing.assert_allclose(metrics.mean_log_probs(samples), [-1e4, 0.0])


def test_one_sample_is_its_own_mean() -> None:
    np.testing.assert_allclose(
        metrics.mean_log_probs(SAMPLES[:1]), SAMPLES[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("shape", [(5,), (0, 5)])
def test_no_samples(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"sampled_log_probs must have shape \[S, ..., K\]"):
        metrics.mean_log_probs(jnp.zeros(shape))


def test_mutual_information_is_the_formula() -> None:
    samples = LOG_PROBS.reshape(4, 250, 7)
    mean = np.exp(samples).mean(0)
    expected = -np.sum(mean * np.log(mean), -1) + np.sum(np.exp(samples) * samples, -1).mean(0)
    np.testing.assert_allclose(metrics.mutual_information(samples), expected, atol=1e-6)


def test_mutual_information_is_zero_without_disagreement_and_never_negative() -> None:
    same = np.broadcast_to(LOG_PROBS, (5, 1000, 7))
    information = metrics.mutual_information(same)
    np.testing.assert_allclose(information, 0.0, atol=1e-6)
    assert np.all(information >= 0.0)
    np.testing.assert_array_equal(metrics.mutual_information(LOG_PROBS[None, 0]), 0.0)


def test_every_leading_axis_counts_examples() -> None:
    for metric in SCALARS:
        folded = metric(LOG_PROBS.reshape(10, 100, 7), LABELS.reshape(10, 100))
        np.testing.assert_allclose(folded, metric(LOG_PROBS, LABELS), rtol=1e-5)


@pytest.mark.parametrize("metric", SCALARS)
def test_jit_and_vmap(metric: Callable[..., jax.Array]) -> None:
    stacked = jnp.asarray(LOG_PROBS.reshape(2, 500, 7)), jnp.asarray(LABELS.reshape(2, 500))
    expected = [metric(stacked[0][i], stacked[1][i]) for i in range(2)]
    np.testing.assert_allclose(jax.jit(jax.vmap(metric))(*stacked), expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: Any) -> None:
    log_probs = jnp.asarray(LOG_PROBS, dtype)
    for metric in SCALARS:
        assert metric(log_probs, LABELS).dtype == jnp.float32
        np.testing.assert_allclose(metric(log_probs, LABELS), metric(LOG_PROBS, LABELS), atol=2e-2)


SCORES = np.random.default_rng(1).normal(size=500).astype(np.float32)
FLAGS = np.random.default_rng(2).random(500) < 1.0 / (1.0 + np.exp(-SCORES))


@pytest.mark.parametrize("decimals", [7, 1, 0, -1])  # fewer decimals give more ties
def test_auroc_is_scikit_learns(decimals: int) -> None:
    scores = np.round(SCORES, decimals)
    expected = sklearn.metrics.roc_auc_score(FLAGS, scores)
    np.testing.assert_allclose(metrics.auroc(scores, FLAGS), expected, rtol=1e-5)


def test_auroc_does_not_round_many_examples() -> None:
    scores = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    flags = scores + np.random.default_rng(1).normal(size=100_000) > 1.0
    expected = sklearn.metrics.roc_auc_score(flags, scores)
    np.testing.assert_allclose(metrics.auroc(scores, flags), expected, rtol=1e-6)


def test_auroc_of_extremes() -> None:
    assert metrics.auroc(FLAGS.astype(np.float32), FLAGS) == 1.0
    assert metrics.auroc(-FLAGS.astype(np.float32), FLAGS) == 0.0
    assert metrics.auroc(np.zeros(500), FLAGS) == 0.5
    assert metrics.auroc(np.where(FLAGS, np.inf, -np.inf), FLAGS) == 1.0
    for same in (np.ones(500, bool), np.zeros(500, bool)):
        assert np.isnan(metrics.auroc(SCORES, same))


def test_auroc_sees_only_the_order_and_the_negated_score_is_its_complement() -> None:
    actual = metrics.auroc(SCORES, FLAGS)
    np.testing.assert_allclose(metrics.auroc(np.exp(SCORES), FLAGS), actual, rtol=1e-6)
    np.testing.assert_allclose(metrics.auroc(-SCORES, FLAGS), 1.0 - actual, rtol=1e-5)


def test_risk_coverage_is_the_error_rate_of_the_surest() -> None:
    order = np.argsort(SCORES)
    expected = [FLAGS[order[:count]].mean() for count in range(1, 501)]
    curve = metrics.risk_coverage(SCORES, FLAGS)
    np.testing.assert_allclose(curve, expected, rtol=1e-5)
    area = metrics.area_under_risk_coverage(SCORES, FLAGS)
    np.testing.assert_allclose(area, np.mean(expected), rtol=1e-5)


def test_risk_coverage_of_ties_is_the_mean_over_their_orders() -> None:
    uncertainties = np.array([0.5, 0.1, 0.5, 0.5, 0.1])
    is_error = np.array([True, True, False, False, False])
    curves = []
    for order in itertools.permutations(range(5)):
        if np.all(np.diff(uncertainties[list(order)]) >= 0):
            curves.append(np.cumsum(is_error[list(order)]) / np.arange(1, 6))
    actual = metrics.risk_coverage(uncertainties, is_error)
    np.testing.assert_allclose(actual, np.mean(curves, axis=0), rtol=1e-6)


def test_risk_coverage_of_extremes() -> None:
    for certain in (np.zeros(500), np.full(500, -np.inf), np.full(500, np.inf)):
        np.testing.assert_allclose(
            metrics.risk_coverage(certain, FLAGS), FLAGS.mean(), rtol=1e-5, err_msg=str(certain[0])
        )
    np.testing.assert_array_equal(metrics.risk_coverage(SCORES, np.zeros(500, bool)), 0.0)
    np.testing.assert_allclose(metrics.risk_coverage(SCORES, np.ones(500, bool)), 1.0, rtol=1e-6)


@pytest.mark.parametrize("metric", [metrics.auroc, metrics.risk_coverage])
def test_detection_under_jit_and_vmap(metric: Callable[..., jax.Array]) -> None:
    stacked = jnp.asarray(SCORES.reshape(2, 250)), jnp.asarray(FLAGS.reshape(2, 250))
    expected = [metric(stacked[0][i], stacked[1][i]) for i in range(2)]
    np.testing.assert_allclose(jax.jit(jax.vmap(metric))(*stacked), expected, rtol=1e-5)
    folded = metric(SCORES.reshape(5, 100), FLAGS.reshape(5, 100))
    np.testing.assert_allclose(folded, metric(SCORES, FLAGS), rtol=1e-5)
