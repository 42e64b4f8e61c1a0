"""`where` is the loss of the examples, or of the classes, that are kept; nothing else matters."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dropmax_jax import (
    METHODS,
    Heads,
    LossTerms,
    dropmax_log_probs,
    dropmax_loss,
    dropmax_loss_and_terms,
    dropmax_loss_terms,
    elbo,
    sample_dropmax_log_probs,
)
from dropmax_jax.methods.temperature_scaling import fit_temperature
from tests.dropmax_jax import oracle

KEY = jax.random.key(0)
CONFIG = settings(max_examples=15, derandomize=True)
JUNK = (np.nan, np.inf, -np.inf, 1e30, 0.0)
# What has no randomness that depends on how many classes there are.
DETERMINISTIC = ("softmax", "sparsemax", "deterministic_attention", "temperature_scaling")

rows = st.lists(st.booleans(), min_size=6, max_size=6).map(np.array)
classes = st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=6, max_size=6).map(
    np.array
)
junk = st.sampled_from(JUNK)


def spoilt(heads: Heads, where: np.ndarray, value: float) -> Heads:
    """Heads with a value in all that does not count."""
    full = where if where.ndim == 2 else np.broadcast_to(where[:, None], (6, 5))
    found: Heads = jax.tree.map(lambda head: jnp.where(full, head, value), heads)
    return found


HEADS = oracle.random_heads(0, (6, 5))
LABELS = np.array([0, 1, 2, 3, 4, 0])


def of_method(name: str) -> Callable[..., jax.Array]:
    return lambda heads, labels, where: METHODS[name].loss(KEY, heads, labels, where=where)


LOSSES: dict[str, Callable[..., jax.Array]] = {
    "dropmax_loss": lambda heads, labels, where: dropmax_loss(KEY, heads, labels, where=where),
    "dropmax_loss_terms": lambda heads, labels, where: (
        dropmax_loss_terms(heads, labels, jnp.log(jnp.full((6, 5), 0.3)), where=where).total
    ),
    "elbo": lambda heads, labels, where: elbo(KEY, heads, labels, where=where),
    **{name: of_method(name) for name in METHODS},
}


@functools.partial(jax.jit, static_argnums=0)
def gradient_and_losses(name: str, heads: Heads, labels: Any, where: Any) -> Any:
    def total(heads: Heads) -> Any:
        losses = LOSSES[name](heads, labels, where)
        return losses.sum(), losses

    return jax.grad(total, has_aux=True)(heads)


@pytest.mark.parametrize("name", LOSSES)
@CONFIG
@given(where=rows, value=junk)
def test_examples_that_do_not_count(name: str, where: np.ndarray, value: float) -> None:
    labels = np.where(where, LABELS, -1)
    gradient, losses = gradient_and_losses(name, spoilt(HEADS, where, value), labels, where)
    wanted, expected = gradient_and_losses(name, HEADS, LABELS, np.ones(6, bool))
    np.testing.assert_array_equal(losses[~where], 0.0)
    np.testing.assert_allclose(losses[where], expected[where], rtol=1e-6)
    for one, other in zip(gradient, wanted, strict=True):
        np.testing.assert_array_equal(one[~where], 0.0)
        np.testing.assert_allclose(one[where], other[where], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@CONFIG
@given(where=classes, value=junk)
def test_classes_that_do_not_exist(name: str, where: np.ndarray, value: float) -> None:
    labels = np.where(where.any(-1), where.argmax(-1), -1)
    gradient, losses = gradient_and_losses(name, spoilt(HEADS, where, value), labels, where)
    np.testing.assert_array_equal(losses[~where.any(-1)], 0.0)
    assert np.isfinite(losses).all()
    for one in gradient:
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one[~where], 0.0)
    # Whatever stands there.
    _, others = gradient_and_losses(name, spoilt(HEADS, where, 3.0), labels, where)
    np.testing.assert_array_equal(losses, others)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_classes_kept_alone(name: str) -> None:
    kept, method = [0, 2, 3], METHODS[name]
    where = np.isin(np.arange(5), kept)[None]
    labels = np.array([0, 1, 2, 0, 1, 2])
    few = jax.tree.map(lambda head: head[:, kept], HEADS)
    np.testing.assert_allclose(
        method.loss(KEY, HEADS, np.array(kept)[labels], where=where),
        method.loss(KEY, few, labels),
        rtol=1e-6,
    )
    log_probs = method.log_probs(HEADS, where=where)
    np.testing.assert_allclose(log_probs[:, kept], method.log_probs(few), rtol=1e-5)
    np.testing.assert_array_equal(log_probs[:, [1, 4]], -np.inf)


def test_dropmax_of_the_classes_kept_alone() -> None:
    # The noise of a class does not depend on where: with a mask that is given, neither does z.
    kept = [0, 2, 3]
    where, log_mask = np.isin(np.arange(5), kept)[None], jnp.log(jnp.linspace(0.1, 0.9, 30))
    log_mask = log_mask.reshape(6, 5)
    few = jax.tree.map(lambda head: head[:, kept], HEADS)
    labels = np.array([0, 1, 2, 0, 1, 2])
    for of_labels in (lambda labels, k: labels, jax.nn.one_hot):
        found = dropmax_loss_terms(
            HEADS, of_labels(np.array(kept)[labels], 5), log_mask, where=where
        )
        wanted = dropmax_loss_terms(few, of_labels(labels, 3), log_mask[:, kept])
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_predictions_of_classes_that_exist(name: str) -> None:
    where = np.array([True, False, True, True, False])[None]
    log_probs = METHODS[name].log_probs(
        spoilt(HEADS, np.broadcast_to(where, (6, 5)), np.nan), where=where
    )
    np.testing.assert_array_equal(log_probs[:, ~where[0]], -np.inf)
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1.0, rtol=1e-5)


def test_samples_of_classes_that_exist() -> None:
    where = np.array([True, False, True, True, False])[None]
    samples = sample_dropmax_log_probs(KEY, HEADS, 4, where=where)
    np.testing.assert_array_equal(samples[..., ~where[0]], -np.inf)
    np.testing.assert_allclose(np.exp(samples).sum(-1), 1.0, rtol=1e-5)
    log_probs = dropmax_log_probs(HEADS, where=where[0, None])
    assert log_probs.shape == (6, 5)


@pytest.mark.parametrize("name", METHODS)
def test_a_logit_of_minus_infinity_gives_finite_gradients(name: str) -> None:
    method = METHODS[name]
    heads = HEADS._replace(logits=HEADS.logits.at[:, 1].set(-jnp.inf))
    labels = jnp.where(LABELS == 1, 0, LABELS)

    def total(heads: Heads) -> jax.Array:
        return method.loss(KEY, heads, labels).sum()

    value, gradient = jax.value_and_grad(total)(heads)
    assert np.isfinite(value)
    for head in gradient:
        assert np.isfinite(head).all()


def test_fit_temperature() -> None:
    logits = jax.random.normal(jax.random.key(1), (200, 5))
    labels = jax.random.categorical(jax.random.key(2), logits)
    where = np.arange(200) % 3 > 0
    spoiled = Heads(jnp.where(where[:, None], 3 * logits, jnp.nan))
    found = fit_temperature(spoiled, jnp.where(where, labels, -1), where=where)
    wanted = fit_temperature(Heads(3 * logits[where]), labels[where])
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


class TestWeights:
    def test_weigh_the_terms(self) -> None:
        weights = LossTerms(*map(jnp.float32, (1.0, 0.5, 2.0, -0.1)))
        loss, terms = dropmax_loss_and_terms(KEY, HEADS, LABELS, weights=weights)
        expected = sum(w * t for w, t in zip(weights, terms, strict=True))
        np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-5)
        _, unweighted = dropmax_loss_and_terms(KEY, HEADS, LABELS)
        for one, other in zip(terms, unweighted, strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize("soft", [False, True])
    def test_gradients_are_those_of_the_weighted_terms(self, soft: bool) -> None:
        labels = oracle.one_hot(LABELS, 5) * 0.7 + 0.06 if soft else LABELS
        weights = LossTerms(*map(jnp.float32, (1.0, 0.5, 2.0, -0.1)))

        def fused(heads: Heads, weights: LossTerms) -> jax.Array:
            return dropmax_loss(KEY, heads, jnp.asarray(labels), weights=weights).sum()

        def plain(heads: Heads, weights: LossTerms) -> jax.Array:
            _, terms = dropmax_loss_and_terms(KEY, heads, jnp.asarray(labels))
            return jnp.sum(jnp.stack([w * t for w, t in zip(weights, terms, strict=True)]))

        found, wanted = (jax.jit(jax.grad(f, (0, 1)))(HEADS, weights) for f in (fused, plain))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wanted
        )

    def test_python_numbers_will_do(self) -> None:
        weights = LossTerms(1.0, 0.0, 0.0, 0.0)  # type: ignore[arg-type]
        loss, terms = dropmax_loss_and_terms(KEY, HEADS, LABELS, weights=weights)
        np.testing.assert_allclose(loss, terms.cross_entropy, rtol=1e-6)

    def test_others_are_refused(self) -> None:
        with pytest.raises(TypeError, match="weights must be a LossTerms, but is a tuple"):
            dropmax_loss(KEY, HEADS, LABELS, weights=(1, 1, 1, 1))  # type: ignore[arg-type]
        wrong = LossTerms(*jnp.ones((4, 6)))
        with pytest.raises(ValueError, match=r"weights.cross_entropy must be a scalar, but has"):
            dropmax_loss(KEY, HEADS, LABELS, weights=wrong)


@pytest.mark.parametrize("shape", [(5,), (6, 4), (7,), (6, 5, 1), ()])
def test_a_where_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"where must have shape \(6,\), for examples, or \(6, 5\)"
    ):
        dropmax_loss(KEY, HEADS, LABELS, where=np.ones(shape, bool))


def test_a_where_that_is_not_boolean_is_refused() -> None:
    with pytest.raises(TypeError, match="where must be a boolean array, but has dtype float32"):
        dropmax_loss(KEY, HEADS, LABELS, where=jnp.ones(6))
