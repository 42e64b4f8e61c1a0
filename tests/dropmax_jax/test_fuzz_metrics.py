"""Metrics of any predictions equal their definitions in NumPy, and are never NaN."""

from typing import Any

import hypothesis.extra.numpy as st_numpy
import jax.numpy as jnp
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dropmax_jax import metrics
from tests.dropmax_jax import oracle

# There are few shapes, because the operations are compiled anew for each.
SHAPES = [(1, 1), (7, 3), (2, 3, 4)]
DTYPES: list[Any] = [np.float32, jnp.bfloat16]
CONFIG = settings(max_examples=40, derandomize=True)


@st.composite
def predictions(draw: st.DrawFn, num_samples: int | None = None) -> tuple[Any, Any]:
    """Log-probabilities, some minus infinity, and labels."""
    shape = draw(st.sampled_from(SHAPES))
    elements = st.one_of(st.floats(-1e4, 1e4, width=32), st.sampled_from([0.0, 1.0, -np.inf]))
    whole = shape if num_samples is None else (num_samples, *shape)
    logits = draw(st_numpy.arrays(np.float32, whole, elements=elements)).astype(np.float64)
    # Not all classes can be impossible.
    logits[..., 0] = np.maximum(logits[..., 0], -1e4)
    log_probs = oracle.log_softmax(logits).astype(draw(st.sampled_from(DTYPES)))
    labels = draw(st_numpy.arrays(np.int32, shape[:-1], elements=st.integers(0, shape[-1] - 1)))
    return log_probs, labels


@CONFIG
@given(predictions())
def test_scores(case: tuple[Any, Any]) -> None:
    log_probs, labels = case
    exact = log_probs.astype(np.float64)
    target = oracle.one_hot(labels, exact.shape[-1])
    with np.errstate(invalid="ignore"):
        error = np.mean(exact.argmax(-1) != labels)
        nll = -np.mean(np.where(target, exact, 0.0).sum(-1))
        brier = np.mean(((np.exp(exact) - target) ** 2).sum(-1))
    np.testing.assert_allclose(metrics.error_rate(log_probs, labels), error, rtol=1e-6)
    np.testing.assert_allclose(metrics.nll(log_probs, labels), nll, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics.brier(log_probs, labels), brier, rtol=1e-5, atol=1e-6)


@CONFIG
@given(predictions(), st.sampled_from([1, 4, 15]))
def test_calibration(case: tuple[Any, Any], num_bins: int) -> None:
    log_probs, labels = case
    confidence = np.exp(log_probs.max(-1).astype(np.float32)).astype(np.float64).ravel()
    correct = (log_probs.argmax(-1) == labels).ravel().astype(float)
    # Rounding decides the bin right beside an edge.
    places = confidence * num_bins
    assume(np.all((abs(places - places.round()) > 1e-4) | (confidence == 1.0)))
    bins = np.clip(np.ceil(places).astype(int) - 1, 0, num_bins - 1)
    found = metrics.reliability_bins(log_probs, labels, num_bins)
    for index in range(num_bins):
        inside = bins == index
        assert found.counts[index] == inside.sum()
        if inside.any():
            np.testing.assert_allclose(found.accuracy[index], correct[inside].mean(), rtol=1e-5)
            np.testing.assert_allclose(
                found.confidence[index], confidence[inside].mean(), rtol=1e-5, atol=1e-6
            )
    for metric, members in (
        (metrics.expected_calibration_error, bins),
        (metrics.adaptive_calibration_error, equal_mass(confidence, num_bins)),
    ):
        gaps = [
            np.sum(members == index)
            * abs(correct[members == index].mean() - confidence[members == index].mean())
            for index in set(members.tolist())
        ]
        expected = np.sum(gaps) / len(confidence)
        np.testing.assert_allclose(
            metric(log_probs, labels, num_bins), expected, rtol=1e-4, atol=1e-5
        )


def equal_mass(confidence: Any, num_bins: int) -> Any:
    members = np.empty(len(confidence), int)
    order = np.argsort(confidence, kind="stable")
    members[order] = np.arange(len(confidence)) * num_bins // len(confidence)
    return members


def entropy(log_probs: Any) -> Any:
    with np.errstate(invalid="ignore"):
        return -np.where(np.isfinite(log_probs), np.exp(log_probs) * log_probs, 0.0).sum(-1)


@CONFIG
@given(predictions(num_samples=3))
def test_entropies(case: tuple[Any, Any]) -> None:
    log_probs, _ = case
    exact = log_probs.astype(np.float64)
    np.testing.assert_allclose(
        metrics.predictive_entropy(log_probs), abs(entropy(exact)), rtol=1e-4, atol=1e-5
    )
    with np.errstate(divide="ignore"):
        mean = np.log(np.exp(exact).mean(0))
    expected = np.maximum(entropy(mean) - abs(entropy(exact)).mean(0), 0.0)
    np.testing.assert_allclose(
        metrics.mutual_information(log_probs), expected, rtol=1e-3, atol=2e-5
    )


# XLA on CPU treats subnormal numbers as 0. Only the difference of the last two is subnormal.
SCORES = st.one_of(
    st.floats(allow_nan=False, allow_subnormal=False, width=32),
    st.sampled_from([0.0, 1.0, np.inf, -np.inf, 1e38, -1e38, 2.0**-126, 1.5 * 2.0**-126]),
)


@CONFIG
@given(
    st.sampled_from([(1,), (8,), (3, 4)]).flatmap(
        lambda shape: st.tuples(
            st_numpy.arrays(np.float32, shape, elements=SCORES),
            st_numpy.arrays(np.bool_, shape),
        )
    )
)
def test_detection(case: tuple[Any, Any]) -> None:
    scores, flags = case
    s, is_error = scores.ravel(), flags.ravel()
    if is_error.any() and not is_error.all():
        positive, negative = s[is_error][:, None], s[~is_error]
        expected = np.mean((positive > negative) + 0.5 * (positive == negative))
        np.testing.assert_allclose(metrics.auroc(scores, flags), expected, rtol=1e-5, atol=1e-6)
    else:
        assert np.isnan(metrics.auroc(scores, flags))  # as documented
    rates = np.array([is_error[s == value].mean() for value in s])
    expected = np.cumsum(rates[np.argsort(s)]) / np.arange(1, len(s) + 1)
    found = metrics.risk_coverage(scores, flags)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    area = metrics.area_under_risk_coverage(scores, flags)
    np.testing.assert_allclose(area, expected.mean(), rtol=1e-5, atol=1e-6)
