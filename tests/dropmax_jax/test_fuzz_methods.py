"""Every method on any heads equals its NumPy formula for the classes it drew, never NaN."""

from collections.abc import Callable
from functools import partial
from typing import Any

import hypothesis.extra.numpy as st_numpy
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dropmax_jax import METHODS, Heads, Method, posterior_logits, sample_log_mask
from dropmax_jax.methods.class_dropout import sample_retained_classes
from dropmax_jax.methods.sampled_softmax import sample_class_subset
from tests.dropmax_jax import oracle

# There are few kinds, because each is compiled anew.
KINDS: list[tuple[tuple[int, ...], Any]] = [((3,), np.float32), ((2, 2, 5), jnp.bfloat16)]
CONFIG = settings(max_examples=25, derandomize=True)
KEYS = st.integers(0, 2**32 - 1)


@st.composite
def cases(draw: st.DrawFn, size: float) -> tuple[Heads, Any]:
    """Three heads of one dtype, with values that it can represent, and labels."""
    shape, dtype = draw(st.sampled_from(KINDS))
    elements = st.floats(-size, size, width=32)
    heads = [draw(st_numpy.arrays(np.float32, shape, elements=elements)) for _ in range(3)]
    labels = draw(st_numpy.arrays(np.int32, shape[:-1], elements=st.integers(0, shape[-1] - 1)))
    return Heads(*(jnp.asarray(head.astype(dtype)) for head in heads)), labels


@partial(jax.jit, static_argnums=0)
def everything(method: Method, key: jax.Array, heads: Heads, labels: jax.Array) -> dict[str, Any]:
    def total(heads: Heads) -> tuple[jax.Array, jax.Array]:
        loss = method.loss(key, heads, labels)
        return loss.sum(), loss

    gradients, loss = jax.grad(total, has_aux=True)(heads)
    fitted = method.fit(heads, labels) if method.fit else None
    found = {
        "loss": loss,
        "terms": sum(method.terms(key, heads, labels).values()),
        "gradients": gradients,
        "log_probs": method.log_probs(heads, fitted),
        "fitted": fitted,
    }
    if method.sample_log_probs is not None:
        found["samples"] = method.sample_log_probs(key, heads, 2)
    return found


@pytest.mark.parametrize("name", METHODS)
@CONFIG
@given(cases(size=1e4), KEYS)
def test_no_method_gives_nan(name: str, case: tuple[Heads, Any], seed: int) -> None:
    heads, labels = case
    found = everything(METHODS[name], jax.random.key(seed), heads, labels)
    assert np.all(np.isfinite(found["loss"]))
    np.testing.assert_allclose(found["terms"], found["loss"], rtol=1e-5, atol=1e-2)
    for gradient in jax.tree.leaves(found["gradients"]):
        assert np.all(np.isfinite(gradient.astype(np.float32)))
    for predictions in (found["log_probs"], found.get("samples", found["log_probs"])):
        assert not np.any(np.isnan(predictions))
        # float32 keeps three decimals of logits near 1e4.
        np.testing.assert_allclose(np.exp(predictions).sum(-1), 1.0, rtol=2e-3)


@pytest.mark.parametrize("name", METHODS)
@CONFIG
@given(cases(size=30.0), KEYS)
def test_every_method_is_its_formula(name: str, case: tuple[Heads, Any], seed: int) -> None:
    heads, labels = case
    key = jax.random.key(seed)
    found = everything(METHODS[name], key, heads, labels)
    o, prior, label = (np.asarray(head, np.float64) for head in heads)
    target = oracle.one_hot(labels, o.shape[-1])
    loss, log_probs = FORMULAS[name](Case(key, heads, labels, o, prior, label, target), found)
    np.testing.assert_allclose(found["loss"], loss, rtol=5e-5, atol=5e-4)
    np.testing.assert_allclose(found["log_probs"], log_probs, rtol=5e-5, atol=2e-4)


class Case:
    """A key, heads and labels, and the heads in float64."""

    def __init__(
        self, key: jax.Array, heads: Heads, labels: Any, o: Any, prior: Any, label: Any, target: Any
    ) -> None:
        self.key, self.heads, self.labels = key, heads, labels
        self.o, self.prior, self.label, self.target = o, prior, label, target

    def cross_entropy(self, logits: Any) -> Any:
        return -np.where(self.target, oracle.log_softmax(logits), 0.0).sum(-1)

    def masks(self, logits: Any) -> Any:
        return np.exp(np.asarray(sample_log_mask(self.key, logits), np.float64))

    def dropmax_terms(self) -> Any:
        terms = oracle.loss_terms(
            self.o, self.prior, self.label, self.labels, np.zeros(self.o.shape), 0.1, 1e-20
        )
        return terms["kl_divergence"] + terms["label_regression"] + terms["prior_negative_entropy"]

    def negative_entropy(self) -> Any:
        return oracle.negative_entropy(self.prior).sum(-1)


def without(classes: Any, logits: Any) -> Any:
    """The logits, with all but these classes dropped."""
    return np.where(classes, logits, -1e9)


def softmax(case: Case, found: Any) -> Any:
    return case.cross_entropy(case.o), oracle.log_softmax(case.o)


def sparsemax(case: Case, found: Any) -> Any:
    ordered = -np.sort(-case.o, axis=-1)
    counts = np.arange(1, case.o.shape[-1] + 1)
    sums = np.cumsum(ordered, -1)
    size = (1 + counts * ordered > sums).sum(-1, keepdims=True)
    tau = (np.take_along_axis(sums, size - 1, -1) - 1) / size
    probs = np.maximum(case.o - tau, 0.0)
    own = np.where(case.target, case.o, 0.0).sum(-1)
    loss = -own + 0.5 * np.where(probs > 0, case.o**2 - tau**2, 0.0).sum(-1) + 0.5
    # The log of a small probability magnifies the rounding of the threshold.
    np.testing.assert_allclose(np.exp(found["log_probs"]), probs, atol=1e-6)
    return loss, np.where(probs > 1e-2, np.log(np.maximum(probs, 1e-2)), found["log_probs"])


def sampled_softmax(case: Case, found: Any) -> Any:
    fraction = METHODS["sampled_softmax"].hyperparameters["sampled_fraction"]
    subset = sample_class_subset(case.key, case.heads.logits, case.labels, fraction)
    return case.cross_entropy(without(subset, case.o)), oracle.log_softmax(case.o)


def class_dropout(case: Case, found: Any) -> Any:
    retained = sample_retained_classes(case.key, case.heads.logits, case.labels, 0.4)
    return case.cross_entropy(without(retained, case.o)), oracle.log_softmax(case.o)


def random_dropmax_logit(case: Case, found: Any) -> Any:
    retained = sample_retained_classes(case.key, case.heads.logits, case.labels, 0.4)
    return case.cross_entropy(np.where(retained, case.o, 0.0)), oracle.log_softmax(case.o)


def deterministic_attention(case: Case, found: Any) -> Any:
    logits = case.o + np.log(oracle.sigmoid(case.prior))
    return case.cross_entropy(logits), oracle.log_softmax(logits)


def dropmax_marginal(case: Case, found: Any) -> Any:
    assert case.heads.prior_logits is not None
    mask = case.masks(case.heads.prior_logits[None])[0]
    loss = case.cross_entropy(case.o + np.log(mask + 1e-20)) + case.negative_entropy()
    return loss, oracle.predict(case.o, case.prior, 1e-20)


def dropmax_prior(case: Case, found: Any) -> Any:
    mask = np.where(case.target, 1.0, case.masks(case.heads.prior_logits))
    loss = case.cross_entropy(case.o + np.log(mask + 1e-20)) + case.negative_entropy()
    loss += np.where(case.target, np.logaddexp(0, -case.prior), 0.0).sum(-1)
    return loss, oracle.predict(case.o, case.prior, 1e-20)


def dropmax_balanced(case: Case, found: Any) -> Any:
    loss, log_probs = dropmax(case, found)
    count = case.o.shape[-1]
    right, wrong = np.logaddexp(0, -case.label), np.logaddexp(0, case.label)
    usual = np.where(case.target, right, wrong).sum(-1)
    balanced = np.where(case.target, (count - 1) * right, wrong).sum(-1)
    return loss - usual + 4 / count * balanced, log_probs


def dropmax(case: Case, found: Any) -> Any:
    mask = np.where(case.target, 1.0, case.masks(posterior_logits(case.heads)))
    loss = case.cross_entropy(case.o + np.log(mask + 1e-20)) + case.dropmax_terms()
    return loss, oracle.predict(case.o, case.prior, 1e-20)


def dropmax_logit(case: Case, found: Any) -> Any:
    mask = np.where(case.target, 1.0, case.masks(posterior_logits(case.heads)))
    loss = case.cross_entropy(case.o * mask) + case.dropmax_terms()
    return loss, oracle.log_softmax(case.o * oracle.sigmoid(case.prior))


def label_smoothing(case: Case, found: Any) -> Any:
    log_probs = oracle.log_softmax(case.o)
    smoothed = 0.9 * case.cross_entropy(case.o) - 0.1 * log_probs.mean(-1)
    return smoothed, log_probs


def temperature_scaling(case: Case, found: Any) -> Any:
    return case.cross_entropy(case.o), oracle.log_softmax(case.o / float(found["fitted"]))


FORMULAS: dict[str, Callable[[Case, Any], Any]] = {
    "softmax": softmax,
    "sparsemax": sparsemax,
    "sampled_softmax": sampled_softmax,
    "class_dropout": class_dropout,
    "deterministic_attention": deterministic_attention,
    "dropmax_prior": dropmax_prior,
    "dropmax_marginal": dropmax_marginal,
    "dropmax_balanced": dropmax_balanced,
    "dropmax": dropmax,
    "random_dropmax_logit": random_dropmax_logit,
    "dropmax_logit": dropmax_logit,
    "label_smoothing": label_smoothing,
    "temperature_scaling": temperature_scaling,
    # Its dropout belongs to the network.
    "mc_dropout": softmax,
}


def test_every_method_has_a_formula() -> None:
    assert set(FORMULAS) == set(METHODS)
