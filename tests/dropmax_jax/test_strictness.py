"""The functions work without implicit promotion, in shard_map, and when copied."""

import copy
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from dropmax_jax import (
    METHODS,
    Heads,
    Method,
    dropmax_linear_log_probs,
    dropmax_linear_loss,
    dropmax_linear_top_k,
    dropmax_loss,
    elbo,
    metrics,
    softmax_linear_loss,
)
from tests.dropmax_jax import oracle

KEY = jax.random.key(0)
HEADS = Heads(*(jnp.asarray(head) for head in oracle.random_heads(0, (6, 5))))
LABELS = jnp.array([0, 1, 2, 3, 4, 0])
LOG_PROBS = jax.nn.log_softmax(HEADS.logits)
KEPT = jnp.array([True, False, True, True, False, True])
SWITCHES: list[Callable[[], AbstractContextManager[None]]] = [
    lambda: jax.numpy_rank_promotion("raise"),
    lambda: jax.numpy_dtype_promotion("strict"),
]
switches = pytest.mark.parametrize("switch", SWITCHES, ids=["rank", "dtype"])


def program_of(method: Method) -> str:
    """The text of a program that computes all of the method's results."""

    def everything(heads: Heads) -> Any:
        loss = jax.value_and_grad(lambda heads: method.loss(KEY, heads, LABELS).sum())(heads)
        fitted = method.fit(heads, LABELS) if method.fit else None
        samples = method.sample_log_probs and method.sample_log_probs(KEY, heads, 3)
        terms = method.terms(KEY, heads, LABELS)
        return loss, terms, method.log_probs(heads, fitted), samples

    return jax.jit(everything).lower(HEADS).as_text()


@switches
@pytest.mark.parametrize("name", METHODS)
def test_methods(name: str, switch: Callable[[], AbstractContextManager[None]]) -> None:
    if name == "sparsemax" and switch is SWITCHES[1]:
        pytest.skip("optax's projection promotes dtypes itself")
    # JAX refuses while it traces. The same program gives the same results and need not run.
    expected = program_of(METHODS[name])
    with switch():
        assert program_of(METHODS[name]) == expected


@switches
@pytest.mark.parametrize("is_mixed", [False, True], ids=["one type", "mixed types"])
def test_linear_heads(switch: Callable[[], AbstractContextManager[None]], is_mixed: bool) -> None:
    features, kernels = HEADS.logits.T, HEADS  # [5, 6] and [6, 5]
    if is_mixed:
        features = features.astype(jnp.bfloat16)
    biases, where = Heads(*(kernel[0] for kernel in kernels)), jnp.arange(5)[None] < 4

    def everything(features: jax.Array, kernels: Heads) -> Any:
        def loss(kernels: Heads) -> jax.Array:
            return dropmax_linear_loss(
                KEY,
                features,
                LABELS[:5] % 4,
                kernels,
                biases,
                where=where,
                label_smoothing=0.1,
                balanced=True,
                block_size=(2, 3),
            ).sum()

        one = (features, kernels, biases)
        return (
            jax.value_and_grad(loss)(kernels),
            softmax_linear_loss(features, LABELS[:5], kernels.logits, biases.logits),
            dropmax_linear_log_probs(features, LABELS[:5, None], *one[1:], where=where),
            dropmax_linear_top_k(features, 3, *one[1:], where=where),
        )

    expected = jax.jit(everything).lower(features, kernels).as_text()
    with switch():
        assert jax.jit(everything).lower(features, kernels).as_text() == expected


@pytest.mark.parametrize("name", METHODS)
def test_methods_in_shard_map(name: str) -> None:
    """shard_map tracks which values differ between devices, even on one device."""
    method = METHODS[name]
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))

    def step(heads: Heads, labels: jax.Array) -> Any:
        gradient = jax.grad(lambda heads: method.loss(KEY, heads, labels).sum())(heads)
        fitted = method.fit(heads, labels) if method.fit else None
        return gradient, method.log_probs(heads, fitted)

    sharded = jax.shard_map(step, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6),
        jax.jit(sharded)(HEADS, LABELS),
        jax.jit(step)(HEADS, LABELS),
    )


@pytest.mark.parametrize("name", METHODS)
def test_methods_with_heads_of_half_precision(name: str) -> None:
    if name == "sparsemax":
        pytest.skip("optax's projection promotes dtypes itself")
    half = Heads(*(head.astype(jnp.bfloat16) for head in HEADS if head is not None))
    single = Heads(*(head.astype(jnp.float32) for head in half if head is not None))
    with jax.numpy_dtype_promotion("strict"):
        found = METHODS[name].loss(KEY, half, LABELS)
        np.testing.assert_array_equal(found, METHODS[name].loss(KEY, single, LABELS))
        np.testing.assert_array_equal(
            METHODS[name].log_probs(half), METHODS[name].log_probs(single)
        )


@switches
def test_large_loss_and_elbo(switch: Callable[[], AbstractContextManager[None]]) -> None:
    large = Heads(*(jnp.tile(head, (2000, 1)) for head in HEADS if head is not None))
    labels = jnp.tile(LABELS, 2000)
    with switch():
        jax.eval_shape(jax.grad(lambda heads: dropmax_loss(KEY, heads, labels).sum()), large)
        elbo(KEY, HEADS, LABELS)


def bins_of(where: jax.Array) -> metrics.ReliabilityBins:
    return metrics.reliability_bins(LOG_PROBS, LABELS, where=where)


@switches
@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.error_rate(LOG_PROBS, LABELS),
        lambda: metrics.nll(LOG_PROBS, LABELS),
        lambda: metrics.brier(LOG_PROBS, LABELS),
        lambda: metrics.expected_calibration_error(LOG_PROBS, LABELS),
        lambda: metrics.adaptive_calibration_error(LOG_PROBS, LABELS),
        lambda: metrics.predictive_entropy(LOG_PROBS),
        lambda: metrics.mutual_information(LOG_PROBS[None]),
        lambda: metrics.auroc(LOG_PROBS[:, 0], LABELS == 0),
        lambda: metrics.area_under_risk_coverage(LOG_PROBS[:, 0], LABELS == 0),
        lambda: metrics.error_rate(LOG_PROBS, LABELS, where=KEPT),
        lambda: metrics.nll(LOG_PROBS, LABELS, where=KEPT),
        lambda: metrics.brier(LOG_PROBS, LABELS, where=True),
        lambda: metrics.expected_calibration_error(LOG_PROBS, LABELS, where=KEPT),
        lambda: metrics.adaptive_calibration_error(LOG_PROBS, LABELS, where=KEPT),
        lambda: metrics.auroc(LOG_PROBS[:, 0], LABELS == 0, where=KEPT),
        lambda: metrics.risk_coverage(LOG_PROBS[:, 0], LABELS == 0, where=KEPT),
        lambda: metrics.area_under_risk_coverage(LOG_PROBS[:, 0], LABELS == 0, where=KEPT),
        lambda: bins_of(KEPT).merge(bins_of(~KEPT)).calibration_error,
        lambda: jax.tree.map(np.asarray, bins_of(KEPT)).merge(bins_of(~KEPT)).accuracy,
    ],
)
def test_metrics(
    call: Callable[[], jax.Array], switch: Callable[[], AbstractContextManager[None]]
) -> None:
    expected = call()
    with switch():
        np.testing.assert_array_equal(call(), expected)


@pytest.mark.parametrize("where_is_split", [True, False])
@pytest.mark.parametrize(
    "metric",
    [
        metrics.error_rate,
        metrics.nll,
        metrics.brier,
        metrics.reliability_bins,
        metrics.adaptive_calibration_error,
        metrics.auroc,
        metrics.risk_coverage,
        metrics.area_under_risk_coverage,
    ],
)
def test_metrics_of_some_examples_in_shard_map(
    metric: Callable[..., Any], where_is_split: bool
) -> None:
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    takes_scores = "labels" not in metric.__annotations__
    arrays = (LOG_PROBS[:, 0], LABELS == 0) if takes_scores else (LOG_PROBS, LABELS)

    def rows(first: jax.Array, second: jax.Array, where: jax.Array) -> Any:
        found = metric(first, second, where=where)
        return jax.tree.map(lambda value: value[None], found)

    specs = P("data"), P("data"), P("data") if where_is_split else P()
    sharded = jax.shard_map(rows, mesh=mesh, in_specs=specs, out_specs=P("data"))
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-6),
        jax.jit(sharded)(*arrays, KEPT),
        rows(*arrays, KEPT),
    )


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint32"])
def test_labels_of_any_integer_type_count_three_hundred_classes(dtype: str) -> None:
    logits, labels = jnp.zeros((2, 300)).at[1, 255].set(9.0), np.array([0, 255]).astype(dtype)
    with jax.numpy_dtype_promotion("strict"):
        assert metrics.error_rate(logits, labels) == 0.0


@pytest.mark.parametrize("name", METHODS)
def test_methods_can_be_copied_and_sent_to_other_processes(name: str) -> None:
    for twin in (copy.deepcopy(METHODS[name]), pickle.loads(pickle.dumps(METHODS[name]))):
        assert twin.heads == METHODS[name].heads
        np.testing.assert_array_equal(twin.log_probs(HEADS), METHODS[name].log_probs(HEADS))
