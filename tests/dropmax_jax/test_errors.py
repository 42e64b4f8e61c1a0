"""Tracing refuses wrong arguments, naming the argument, the rule and the given value."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import (
    Heads,
    bernoulli_kl,
    bernoulli_negative_entropy,
    concrete_log_mask,
    dropmax_log_probs,
    dropmax_logits,
    dropmax_loss,
    dropmax_loss_terms,
    elbo,
    metrics,
    posterior_logits,
    sample_dropmax_log_probs,
    sample_log_mask,
)

KEY = jax.random.key(0)
F = jnp.zeros((32, 10))
HEADS = Heads(F, F, F)
Y = jnp.zeros(32, jnp.int32)


def check(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()
    with pytest.raises(error, match=re.escape(message)):
        jax.eval_shape(call)  # no computation is needed to find out


@pytest.mark.parametrize("loss", [dropmax_loss, elbo])
def test_labels(loss: Callable[..., jax.Array]) -> None:
    check(
        lambda: loss(KEY, HEADS, Y[:, None]),
        ValueError,
        "labels must have shape (32,), that of logits without the class axis, "
        "but has shape (32, 1)",
    )
    check(
        lambda: loss(KEY, HEADS, F[:, 0]),
        ValueError,
        f"labels must be integers or have shape {F.shape}, that of logits, to be probabilities, "
        "but are float32 of shape (32,)",
    )
    check(
        lambda: loss(KEY, HEADS, Y == 0),
        TypeError,
        "labels must be an integer array, but has dtype bool",
    )
    check(
        lambda: loss(KEY, HEADS, None),
        TypeError,
        "labels must be an integer array, or probabilities, but is None",
    )
    check(
        lambda: loss(KEY, HEADS, "cat"),
        TypeError,
        "labels must be an integer array, or probabilities, but is 'cat'",
    )


@pytest.mark.parametrize(
    ("heads", "error", "message"),
    [
        (Heads(F), ValueError, "heads.prior_logits must be an array [..., K], but is None"),
        (
            Heads(F, F[:, :9], F),
            ValueError,
            "heads.prior_logits must have shape (32, 10), that of heads.logits, "
            "but has shape (32, 9)",
        ),
        (
            Heads(F.astype(int), F, F),
            TypeError,
            "heads.logits must be a floating-point array, but has dtype int32",
        ),
        (
            Heads(*jnp.zeros((3,))),
            ValueError,
            "heads.logits must have shape [..., K], classes last, but is a scalar",
        ),
        (
            Heads(*jnp.zeros((3, 32, 0))),
            ValueError,
            "heads.logits must have at least one class, but has shape (32, 0)",
        ),
        ((F, F, F), TypeError, "heads must be a dropmax_jax.Heads, but is a tuple"),
    ],
)
def test_heads(heads: Any, error: type[Exception], message: str) -> None:
    check(lambda: dropmax_log_probs(heads), error, message)
    check(lambda: sample_dropmax_log_probs(KEY, heads, 2), error, message)
    check(lambda: dropmax_loss_terms(heads, Y, F), error, message)


def test_heads_missing_from_the_posterior() -> None:
    message = "heads.label_logits must be an array [..., K], but is None"
    check(lambda: posterior_logits(Heads(F, F)), ValueError, message)
    check(lambda: dropmax_loss(KEY, Heads(F, F), Y), ValueError, message)


def test_masks_and_noise() -> None:
    message = "log_mask must have shape (32, 10), that of logits, but has shape (10,)"
    check(lambda: dropmax_logits(F, F[0]), ValueError, message)
    check(lambda: dropmax_loss_terms(HEADS, Y, F[0]), ValueError, message)
    check(
        lambda: dropmax_loss_terms(HEADS, Y, F > 0),
        TypeError,
        "log_mask must be a floating-point array, but has dtype bool",
    )
    check(
        lambda: concrete_log_mask(F, F[0]),
        ValueError,
        "noise must have shape (32, 10), that of logits, but has shape (10,)",
    )
    check(
        lambda: bernoulli_kl(F, F[:5]),
        ValueError,
        "p_logits must broadcast with q_logits, of shape (32, 10), but has shape (5, 10)",
    )
    check(
        lambda: bernoulli_negative_entropy(1),
        TypeError,
        "logits must be a floating-point array, but has dtype int32",
    )


WITH_TEMPERATURE: list[Callable[[Any], Any]] = [
    lambda t: concrete_log_mask(F, F, t),
    lambda t: sample_log_mask(KEY, F, t),
    lambda t: dropmax_loss(KEY, HEADS, Y, temperature=t),
    lambda t: elbo(KEY, HEADS, Y, temperature=t),
    lambda t: sample_dropmax_log_probs(KEY, HEADS, 2, temperature=t),
]


@pytest.mark.parametrize("call", WITH_TEMPERATURE)
def test_temperature(call: Callable[[Any], Any]) -> None:
    rule = "temperature must be positive and finite (from 1.18e-38 to 3.4e+38), but is "
    for value in (0, 0.0, -1.0, np.float64(-1.0), np.array(0.0), np.nan, np.inf, 1e-50, 1e39):
        check(partial(call, value), ValueError, rule + str(float(value)))
    check(
        lambda: call(np.ones(3)),
        ValueError,
        "temperature must be a scalar, but has shape (3,)",
    )
    for text in ("cold", ","):
        check(partial(call, text), TypeError, f"temperature must be a number, but is {text!r}")
    check(lambda: call(True), TypeError, "temperature must be a Python number, but is True")
    # This is larger than an int32.
    np.testing.assert_array_equal(call(2**31), call(2.0**31))


@pytest.mark.parametrize(
    "call",
    [
        lambda e: dropmax_logits(F, F, e),
        lambda e: dropmax_loss_terms(HEADS, Y, F, e),
        lambda e: dropmax_loss(KEY, HEADS, Y, epsilon=e),
        lambda e: elbo(KEY, HEADS, Y, epsilon=e),
        lambda e: dropmax_log_probs(HEADS, e),
        lambda e: sample_dropmax_log_probs(KEY, HEADS, 2, epsilon=e),
    ],
)
def test_epsilon(call: Callable[[Any], Any]) -> None:
    for value in (-1e-20, np.nan, np.inf):
        rule = f"epsilon must be at least 0 and finite, but is {value}"
        check(partial(call, value), ValueError, rule)
    with pytest.raises(TypeError, match="epsilon must be a Python number, .* make it static"):
        jax.jit(call)(1e-20)


@pytest.mark.parametrize(
    "call",
    [
        lambda k: sample_log_mask(k, F),
        lambda k: dropmax_loss(k, HEADS, Y),
        lambda k: elbo(k, HEADS, Y),
        lambda k: sample_dropmax_log_probs(k, HEADS, 2),
    ],
)
def test_key(call: Callable[[Any], Any]) -> None:
    rule = "key must be a random key, such as jax.random.key(0), but "
    check(lambda: call(0), TypeError, rule + "is 0")
    check(lambda: call(None), TypeError, rule + "is None")
    check(lambda: call(jnp.float32(0.0)), TypeError, rule + "has dtype float32 and shape ()")
    check(lambda: call(jnp.zeros(3, "uint32")), TypeError, rule + "has dtype uint32 and shape (3,)")
    check(lambda: call(jnp.zeros(2, int)), TypeError, rule + "has dtype int32 and shape (2,)")
    for many in (jax.random.split(KEY, 3), jax.random.split(jax.random.PRNGKey(0), 3)):
        rule = "key must be one random key, but holds keys in shape (3,)"
        check(partial(call, many), ValueError, rule)


def test_num_samples() -> None:
    value: Any
    for value in (0, -3):
        rule = f"num_samples must be at least 1, but is {value}"
        check(partial(sample_dropmax_log_probs, KEY, HEADS, value), ValueError, rule)
    for value in (2.0, True, None):
        rule = f"num_samples must be a Python integer, but is {value}"
        check(partial(sample_dropmax_log_probs, KEY, HEADS, value), TypeError, rule)


OF_LOG_PROBS: list[Callable[..., Any]] = [
    metrics.nll,
    metrics.brier,
    metrics.expected_calibration_error,
    metrics.adaptive_calibration_error,
    metrics.reliability_bins,
]


@pytest.mark.parametrize("metric", [metrics.error_rate, *OF_LOG_PROBS])
def test_metrics(metric: Callable[..., Any]) -> None:
    check(
        lambda: metric(F, Y[:, None]),
        ValueError,
        "labels must have shape (32,), that of log_probs without the class axis, "
        "but has shape (32, 1)",
    )
    check(lambda: metric(F, F[:, 0]), TypeError, "labels must be an integer array")
    check(lambda: metric(Y, Y), TypeError, "log_probs must be a floating-point array")
    check(lambda: metric(F[:0], Y[:0]), ValueError, "log_probs must have at least one example")
    check(lambda: metric(jnp.zeros((32, 0)), Y), ValueError, "log_probs must have at least one")
    if "num_bins" in metric.__annotations__:
        check(lambda: metric(F, Y, 0), ValueError, "num_bins must be at least 1, but is 0")
        check(lambda: metric(F, Y, 1.5), TypeError, "num_bins must be a Python integer")


@pytest.mark.parametrize(
    ("metric", "arrays", "owner"),
    [
        *((metric, (F, Y), "labels") for metric in (metrics.error_rate, *OF_LOG_PROBS)),
        (metrics.auroc, (F[:, 0], Y == 0), "scores"),
        (metrics.risk_coverage, (F[:, 0], Y == 0), "uncertainties"),
        (metrics.area_under_risk_coverage, (F[:, 0], Y == 0), "uncertainties"),
    ],
)
def test_where(metric: Callable[..., Any], arrays: Any, owner: str) -> None:
    for weights in (F[:, 0], Y):
        check(
            partial(metric, *arrays, where=weights),
            TypeError,
            f"where must be a boolean array, but has dtype {weights.dtype}",
        )
    check(
        partial(metric, *arrays, where="all"),
        TypeError,
        "where must be a boolean array, but is 'all'",
    )
    for shape in ((31,), (32, 1), (1, 32), (0,)):
        check(
            partial(metric, *arrays, where=np.ones(shape, bool)),
            ValueError,
            f"where must have shape (32,), that of {owner}, or one that broadcasts to it, "
            f"but has shape {shape}",
        )


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, partial(jnp.asarray, dtype="bfloat16")])
@pytest.mark.parametrize("metric", OF_LOG_PROBS)
def test_logits_in_place_of_log_probs(
    metric: Callable[..., Any], kind: Callable[[Any], Any]
) -> None:
    logits = kind(np.where(np.arange(20).reshape(4, 5) == 7, 3.2, np.nan).astype(np.float32))
    labels = jnp.zeros(4, jnp.int32)
    message = (
        "log_probs must be log-probabilities, at most 0, but holds 3.2: "
        "pass jax.nn.log_softmax(logits)"
    )
    check(lambda: metric(logits, labels), ValueError, message)
    for counts in (jnp.array([False, True, False, False]), np.arange(4) == 1, True):
        with pytest.raises(ValueError, match=re.escape(message)):
            metric(logits, labels, where=counts)
    metric(logits, labels, where=np.arange(4) != 1)
    jax.eval_shape(lambda where: metric(logits, labels, where=where), labels == 0)
    jax.eval_shape(metric, logits, labels)
    metrics.error_rate(logits, labels)


def test_log_probs_above_zero_by_rounding_are_accepted() -> None:
    for metric in (metrics.nll, metrics.brier, metrics.expected_calibration_error):
        metric(jnp.array([[5e-4, -jnp.inf]]), jnp.array([0]))
    metrics.predictive_entropy(jnp.array([5e-4, -jnp.inf]))


def test_logits_in_place_of_log_probs_without_labels() -> None:
    message = " must be log-probabilities, at most 0, but holds 1: pass jax.nn.log_softmax(logits)"
    check(partial(metrics.predictive_entropy, F + 1.0), ValueError, "log_probs" + message)
    for metric in (metrics.mean_log_probs, metrics.mutual_information):
        check(partial(metric, np.ones((2, 3, 4))), ValueError, "sampled_log_probs" + message)
        jax.eval_shape(metric, np.ones((2, 3, 4)))


def test_bins_that_do_not_merge() -> None:
    bins = metrics.reliability_bins(F, Y)
    check(
        lambda: bins.merge(metrics.reliability_bins(F, Y, 10)),
        ValueError,
        "other.counts must have shape (15,), that of self.counts, but has shape (10,)",
    )
    other: Any = tuple(bins)
    check(lambda: bins.merge(other), TypeError, "other must be a ReliabilityBins, but is a tuple")


def test_mutual_information_needs_samples() -> None:
    for shape in ((10,), (0, 32, 10)):
        check(
            partial(metrics.mutual_information, jnp.zeros(shape)),
            ValueError,
            "sampled_log_probs must have shape [S, ..., K] with at least one sample, "
            f"but has shape {shape}",
        )


@pytest.mark.parametrize(
    ("metric", "scores", "flags"),
    [
        (metrics.auroc, "scores", "is_positive"),
        (metrics.risk_coverage, "uncertainties", "is_error"),
        (metrics.area_under_risk_coverage, "uncertainties", "is_error"),
    ],
)
def test_detection_metrics(metric: Callable[..., Any], scores: str, flags: str) -> None:
    check(
        lambda: metric(F, Y == 0),
        ValueError,
        f"{flags} must have shape (32, 10), that of {scores}, but has shape (32,)",
    )
    check(lambda: metric(F[:, 0], Y), TypeError, f"{flags} must be a boolean array, but has dtype")
    check(lambda: metric(F[:, 0], None), TypeError, f"{flags} must be a boolean array, but is None")
    check(lambda: metric(Y, Y == 0), TypeError, f"{scores} must be a floating-point array")
    check(lambda: metric(F[:0, 0], Y[:0] == 0), ValueError, f"{scores} must have an example")
