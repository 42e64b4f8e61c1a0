"""The balanced label regression: its values, and that all else is DropMax's loss."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import (
    METHODS,
    Heads,
    LossTerms,
    dropmax_balanced_loss,
    dropmax_balanced_loss_and_terms,
    dropmax_loss_and_terms,
)
from dropmax_jax._fused import SMALL
from tests.dropmax_jax import oracle

KEY = jax.random.key(0)
# So large that the CPU has a program of its own.
LARGE = (70, 1000)
SHAPES = [(6, 5), (2, 3, 4), (5, 1), (4, 2), LARGE]


def regression(label: Any, targets: Any, exists: Any = True) -> Any:
    """The balanced regression in NumPy, of one-hot or soft targets."""
    label, targets = np.asarray(label, np.float64), np.asarray(targets, np.float64)
    exists = np.broadcast_to(exists, label.shape)
    count = exists.sum(-1, keepdims=True)
    right, wrong = np.logaddexp(0, -label), np.logaddexp(0, label)
    terms = (count - 1) * targets * right + (1 - targets) * wrong
    return np.where(exists, 4 / count * terms, 0.0).sum(-1)


def labels_of(shape: tuple[int, ...]) -> Any:
    return jnp.arange(int(np.prod(shape[:-1]))).reshape(shape[:-1]) % shape[-1]


def soft_labels_of(shape: tuple[int, ...]) -> Any:
    return jax.nn.softmax(jax.random.normal(jax.random.key(7), shape))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("soft", [False, True])
def test_the_regression_is_balanced_and_the_rest_is_dropmax(
    shape: tuple[int, ...], soft: bool
) -> None:
    heads = oracle.random_heads(0, shape)
    labels = soft_labels_of(shape) if soft else labels_of(shape)
    loss, terms = dropmax_balanced_loss_and_terms(KEY, heads, labels)
    _, usual = dropmax_loss_and_terms(KEY, heads, labels)
    targets = labels if soft else oracle.one_hot(labels, shape[-1])
    np.testing.assert_allclose(
        terms.label_regression, regression(heads.label_logits, targets), rtol=1e-5
    )
    for name in ("cross_entropy", "kl_divergence", "prior_negative_entropy"):
        np.testing.assert_array_equal(getattr(terms, name), getattr(usual, name))
    np.testing.assert_allclose(loss, sum(terms), rtol=1e-4, atol=1e-3)


def test_large_is_not_small() -> None:
    assert LARGE[0] * LARGE[1] > SMALL


@pytest.mark.parametrize("shape", [(6, 5), LARGE], ids=str)
@pytest.mark.parametrize("soft", [False, True])
def test_gradients_are_those_of_the_terms(shape: tuple[int, ...], soft: bool) -> None:
    """By the loss's own derivative, and by the terms', for a cotangent of each example."""
    heads = oracle.random_heads(0, shape)
    labels = soft_labels_of(shape) if soft else labels_of(shape)
    cotangent = jax.random.normal(jax.random.key(3), shape[:-1])

    def by_loss(heads: Heads) -> jax.Array:
        return jnp.sum(cotangent * dropmax_balanced_loss(KEY, heads, labels, temperature=0.4))

    def by_terms(heads: Heads) -> jax.Array:
        _, terms = dropmax_balanced_loss_and_terms(KEY, heads, labels, temperature=0.4)
        return jnp.sum(cotangent * terms.total)

    found, wanted = (jax.jit(jax.grad(of))(heads) for of in (by_loss, by_terms))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    of_label = jax.grad(
        lambda heads: jnp.sum(
            dropmax_balanced_loss_and_terms(KEY, heads, labels)[1].label_regression
        )
    )(heads).label_logits
    r = oracle.sigmoid(np.asarray(heads.label_logits, np.float64))
    targets = np.asarray(labels if soft else oracle.one_hot(labels, shape[-1]), np.float64)
    share = 4 / shape[-1]
    slope = (1 - targets) * share * r - targets * (4 - share) * (1 - r)
    np.testing.assert_allclose(of_label, slope, rtol=1e-4, atol=1e-5)


def test_where_nothing_is_known_of_a_label_r_is_a_half() -> None:
    """The regression's mean over labels is least there, whatever K; that of DropMax is at 1/K."""
    for count in (2, 10, 561):
        uniform = jnp.full(count, 1 / count)

        def slope(logit: float, balanced: bool, uniform: Any = uniform, count: int = count) -> Any:
            def term(label: jax.Array) -> jax.Array:
                heads = Heads(jnp.zeros(count), jnp.zeros(count), label)
                of = dropmax_balanced_loss_and_terms if balanced else dropmax_loss_and_terms
                return of(KEY, heads, uniform)[1].label_regression

            return jax.grad(term)(jnp.full(count, logit))

        np.testing.assert_allclose(slope(0.0, True), 0, atol=1e-6)
        np.testing.assert_allclose(slope(-np.log(max(count - 1, 1)), False), 0, atol=1e-5)


@pytest.mark.parametrize("soft", [False, True])
def test_classes_that_do_not_exist(soft: bool) -> None:
    """The loss is that of the classes which exist, with another number of them in each example."""
    heads = oracle.random_heads(0, (6, 5))
    exists = np.ones((6, 5), bool)
    for row in range(6):
        exists[row, 1 + row % 4 :] = False
    labels = jnp.zeros(6, jnp.int32)
    if soft:
        labels = jax.nn.softmax(jnp.where(exists, heads.logits, -jnp.inf))
    nonsense = Heads(*(jnp.where(exists, head, jnp.nan) for head in heads))
    _, terms = dropmax_balanced_loss_and_terms(KEY, nonsense, labels, where=exists)
    targets = np.asarray(labels) if soft else oracle.one_hot(np.asarray(labels), 5)
    wanted = regression(heads.label_logits, targets, exists)
    np.testing.assert_allclose(terms.label_regression, wanted, rtol=1e-5, atol=1e-6)
    gradient = jax.grad(
        lambda heads: dropmax_balanced_loss(KEY, heads, labels, where=exists).sum()
    )(nonsense)
    for head in gradient:
        assert np.all(np.isfinite(head))
        assert np.all(np.asarray(head)[~exists] == 0)


def test_an_example_without_classes_has_no_loss() -> None:
    heads, exists = oracle.random_heads(0, (2, 3)), jnp.array([[True] * 3, [False] * 3])

    def total(heads: Heads) -> jax.Array:
        losses = dropmax_balanced_loss(KEY, heads, jnp.zeros(2, jnp.int32), where=exists)
        return losses[1] + 0 * losses[0]

    value, gradient = jax.value_and_grad(total)(heads)
    assert value == 0
    for head in gradient:
        assert np.all(np.asarray(head) == 0)


def test_weights_are_of_the_balanced_terms() -> None:
    heads, labels = oracle.random_heads(0, (6, 5)), labels_of((6, 5))
    weights = LossTerms(*map(jnp.asarray, (1.0, 0.5, 2.0, 0.1)))
    loss, terms = dropmax_balanced_loss_and_terms(KEY, heads, labels, weights=weights)
    wanted = sum(weight * term for weight, term in zip(weights, terms, strict=True))
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)


def test_classes_over_an_axis_are_all_counted() -> None:
    heads, labels = oracle.random_heads(0, (6, 8)), labels_of((6, 8))
    mesh = jax.make_mesh((1,), ("c",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.PartitionSpec(None, "c")
    found = jax.shard_map(
        lambda heads: dropmax_balanced_loss(KEY, heads, labels, axis_name="c"),
        mesh=mesh,
        in_specs=(spread,),
        out_specs=jax.sharding.PartitionSpec(),
    )(heads)
    np.testing.assert_allclose(found, dropmax_balanced_loss(KEY, heads, labels), rtol=1e-5)


def test_logits_a_hundred_times_as_large_stay_finite() -> None:
    heads = jax.tree.map(lambda head: 1e4 * head, oracle.random_heads(0, (6, 5)))
    value, gradient = jax.value_and_grad(
        lambda heads: dropmax_balanced_loss(KEY, heads, labels_of((6, 5))).sum()
    )(heads)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(head)) for head in gradient)


def test_is_the_method() -> None:
    heads, labels = oracle.random_heads(0, (6, 5)), labels_of((6, 5))
    method = METHODS["dropmax_balanced"]
    np.testing.assert_array_equal(
        method.loss(KEY, heads, labels), dropmax_balanced_loss(KEY, heads, labels)
    )
    np.testing.assert_array_equal(method.log_probs(heads), METHODS["dropmax"].log_probs(heads))
