"""Metrics of the examples that count are those of these examples alone, and bins of parts merge."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis.extra.numpy as st_numpy
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dropmax_jax import metrics
from dropmax_jax.metrics import ReliabilityBins
from dropmax_jax.metrics.calibration import _equal_mass_edges
from tests.dropmax_jax import oracle
from tests.dropmax_jax.test_fuzz_metrics import CONFIG, SCORES, predictions

SCALARS: list[Callable[..., jax.Array]] = [metrics.error_rate, metrics.nll, metrics.brier]
CALIBRATION: list[Callable[..., Any]] = [
    metrics.expected_calibration_error,
    metrics.adaptive_calibration_error,
    metrics.reliability_bins,
]
DIFFERENTIABLE = [*SCALARS[1:], *CALIBRATION[:2]]
NONSENSE = st.sampled_from([np.nan, np.inf, -np.inf, 7.0])
# How many examples count: few numbers, because programs are compiled anew for each.
NUM_KEPT = st.sampled_from([1, 4])
NUM_BINS = st.sampled_from([1, 4, 15])


# Each of these is one program for all its metrics, which compiles faster than one for each.
@functools.partial(jax.jit, static_argnames="num_bins")
def figures(log_probs: Any, labels: Any, num_bins: int, where: Any = None) -> list[Any]:
    return [
        *(metric(log_probs, labels, where=where) for metric in SCALARS),
        *(metric(log_probs, labels, num_bins, where=where) for metric in CALIBRATION),
    ]


@jax.jit
def gradients(log_probs: Any, labels: Any, where: Any = None) -> list[jax.Array]:
    return [
        jax.grad(functools.partial(metric, where=where))(log_probs, labels)
        for metric in DIFFERENTIABLE
    ]


@jax.jit
def detection(scores: Any, flags: Any, where: Any = None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The area under the ROC curve, that under the risk–coverage curve, and this curve."""
    return (
        metrics.auroc(scores, flags, where=where),
        metrics.area_under_risk_coverage(scores, flags, where=where),
        metrics.risk_coverage(scores, flags, where=where),
    )


equal_mass_edges = jax.jit(_equal_mass_edges, static_argnames="num_bins")
merge = jax.jit(ReliabilityBins.merge)


class Padded(NamedTuple):
    """Arrays that hold nonsense where examples do not count, and the arrays of those that do."""

    arrays: tuple[Any, Any]
    where: Any
    kept: tuple[Any, Any]


# Those of bfloat16 keep its rounding.
float32_predictions = predictions().map(lambda case: (case[0].astype(np.float32), case[1]))


@st.composite
def kept_examples(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Which examples count: at least one."""
    where = np.zeros(shape, bool)
    where.flat[draw(st.permutations(range(where.size)))[: draw(NUM_KEPT)]] = True
    return where


@st.composite
def padded_predictions(draw: st.DrawFn) -> Padded:
    log_probs, labels = draw(float32_predictions)
    where = draw(kept_examples(labels.shape))
    nonsense = draw(st_numpy.arrays(np.float32, log_probs.shape, elements=NONSENSE))
    padded = np.where(where[..., None], log_probs, nonsense)
    kept = log_probs[where], labels[where]
    return Padded((padded, np.where(where, labels, -1)), where, kept)


@st.composite
def padded_scores(draw: st.DrawFn) -> Padded:
    shape = draw(st.sampled_from([(1,), (8,), (3, 4)]))
    scores = draw(st_numpy.arrays(np.float32, shape, elements=SCORES))
    flags, where = draw(st_numpy.arrays(np.bool_, shape)), draw(kept_examples(shape))
    nonsense = draw(st_numpy.arrays(np.float32, shape, elements=NONSENSE))
    padded = np.where(where, scores, nonsense)
    return Padded((padded, flags), where, (scores[where], flags[where]))


def assert_close(found: Any, expected: Any) -> None:
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6),
        found,
        expected,
    )


@CONFIG
@given(padded_predictions(), NUM_BINS)
def test_predictions_that_do_not_count_change_nothing(case: Padded, num_bins: int) -> None:
    found = figures(*case.arrays, num_bins, where=case.where)
    assert_close(found, figures(*case.kept, num_bins))


@CONFIG
@given(padded_scores())
def test_scores_that_do_not_count_change_nothing(case: Padded) -> None:
    *areas, curve = map(np.asarray, detection(*case.arrays, where=case.where))
    *expected_areas, expected_curve = detection(*case.kept)
    assert_close(areas, expected_areas)
    assert curve.shape == (case.where.size,)
    assert_close(curve[: case.where.sum()], expected_curve)
    assert np.all(np.isnan(curve[case.where.sum() :]))


@CONFIG
@given(padded_predictions(), st.booleans())
def test_gradients_are_zero_where_examples_do_not_count(case: Padded, is_any_kept: bool) -> None:
    where = case.where & is_any_kept
    found = list(map(np.asarray, gradients(*case.arrays, where=where)))
    for gradient in found:
        np.testing.assert_array_equal(gradient[~where], 0.0)
    if is_any_kept:
        assert_close([gradient[where] for gradient in found], gradients(*case.kept))


LOG_PROBS = oracle.log_softmax(np.random.default_rng(0).normal(scale=2.0, size=(20, 30, 7)))
LABELS = np.random.default_rng(1).integers(7, size=(20, 30))
WHERE = np.random.default_rng(2).random((20, 30)) < 0.4
PAIRS: list[tuple[Callable[..., Any], tuple[Any, Any]]] = [
    *((metric, (LOG_PROBS, LABELS)) for metric in (*SCALARS, *CALIBRATION)),
    (metrics.auroc, (LOG_PROBS[..., 0], LABELS == 0)),
    (metrics.risk_coverage, (LOG_PROBS[..., 0], LABELS == 0)),
    (metrics.area_under_risk_coverage, (LOG_PROBS[..., 0], LABELS == 0)),
]


@pytest.mark.parametrize(("metric", "arrays"), PAIRS)
def test_where_broadcasts(metric: Callable[..., Any], arrays: tuple[Any, Any]) -> None:
    for where in (WHERE[0], WHERE[:, :1], True):
        everywhere = np.broadcast_to(where, LABELS.shape)
        assert_close(metric(*arrays, where=where), metric(*arrays, where=everywhere))
    assert_close(metric(*arrays, where=True), metric(*arrays))


@pytest.mark.parametrize(("metric", "arrays"), PAIRS)
def test_where_under_jit_and_vmap(metric: Callable[..., Any], arrays: tuple[Any, Any]) -> None:
    def measure(one: Any, other: Any, where: Any) -> Any:
        return metric(one, other, where=where)

    stacked = (*map(jnp.asarray, arrays), jnp.asarray(WHERE).at[3].set(False))
    found = jax.jit(jax.vmap(measure))(*stacked)
    each = [measure(*(array[i] for array in stacked)) for i in range(len(WHERE))]
    assert_close(found, jax.tree.map(lambda *values: jnp.stack(values), *each))


@pytest.mark.parametrize(("metric", "arrays"), PAIRS)
def test_no_example_counts(metric: Callable[..., Any], arrays: tuple[Any, Any]) -> None:
    found = metric(*arrays, where=False)
    expected = 0.0 if metric is metrics.reliability_bins else np.nan
    for leaf in jax.tree.leaves(found):
        np.testing.assert_array_equal(leaf, expected)


@pytest.mark.parametrize("num_bins", [1, 15, 600, 46_341, 100_003])
def test_bins_of_equal_mass_have_as_many_examples_to_within_one(num_bins: int) -> None:
    for count in (0, 1, 14, 15, 16, 100_002, 46_340, 2**24 + 1, 2**31 - 1):
        edges = equal_mass_edges(jnp.int32(count), num_bins)
        exact = -(-np.arange(num_bins + 1) * count // num_bins)
        np.testing.assert_array_equal(edges, exact)
        assert np.ptp(np.diff(edges)) <= 1


def error_and_bins(case: tuple[Any, Any], where: Any, num_bins: int) -> tuple[Any, Any]:
    """The expected calibration error and the bins, of the program that is compiled already."""
    found = figures(*case, num_bins, where=where)
    return found[len(SCALARS)], found[-1]


def split(case: tuple[Any, Any], members: Any, num_bins: int) -> list[ReliabilityBins]:
    return [error_and_bins(case, members == part, num_bins)[1] for part in range(members.max() + 1)]


@settings(CONFIG, max_examples=60)
@given(float32_predictions, NUM_BINS, st.integers(0, 2**32 - 1))
def test_bins_of_parts_merge_in_any_order(case: tuple[Any, Any], num_bins: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = split(case, rng.integers(4, size=case[1].shape), num_bins)
    error, whole = error_and_bins(case, np.ones(case[1].shape, bool), num_bins)
    for _ in range(2):
        rng.shuffle(parts)
        merged = functools.reduce(merge, parts)
        np.testing.assert_array_equal(merged.counts, whole.counts)
        assert_close(merged, whole)
        assert_close(merged.calibration_error, error)


@CONFIG
@given(float32_predictions, st.integers(0, 2**32 - 1))
def test_merging_is_associative_and_no_examples_change_nothing(
    case: tuple[Any, Any], seed: int
) -> None:
    members = np.random.default_rng(seed).integers(3, size=case[1].shape)
    members.flat[0] = 2
    one, two, three = split(case, members, 4)
    assert_close(merge(merge(one, two), three), merge(one, merge(two, three)))
    _, empty = error_and_bins(case, np.zeros(case[1].shape, bool), 4)
    for merged in (merge(one, empty), merge(empty, one)):
        jax.tree.map(np.testing.assert_array_equal, merged, one)


def test_bins_are_carried_through_a_scan() -> None:
    def step(bins: ReliabilityBins, batch: Any) -> tuple[ReliabilityBins, jax.Array]:
        merged = bins.merge(metrics.reliability_bins(*batch))
        return merged, merged.calibration_error

    batches = jnp.asarray(LOG_PROBS), jnp.asarray(LABELS)
    bins, errors = jax.lax.scan(step, ReliabilityBins(*jnp.zeros((3, 15))), batches)
    assert_close(bins, metrics.reliability_bins(LOG_PROBS, LABELS))
    assert_close(errors[-1], metrics.expected_calibration_error(LOG_PROBS, LABELS))


def test_bins_of_several_models_merge_model_by_model() -> None:
    halves = [
        jax.jit(jax.vmap(metrics.reliability_bins))(LOG_PROBS[:, half], LABELS[:, half])
        for half in (slice(15), slice(15, None))
    ]
    errors = halves[0].merge(halves[1]).calibration_error
    wanted = jax.jit(jax.vmap(metrics.expected_calibration_error))(LOG_PROBS, LABELS)
    assert_close(errors, wanted)
