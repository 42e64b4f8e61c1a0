"""The loss of a label distribution is the expected loss over its labels, under one noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dropmax_jax import (
    METHODS,
    Heads,
    LossTerms,
    dropmax_loss,
    dropmax_loss_and_terms,
    dropmax_loss_terms,
    elbo,
    posterior_logits,
    sample_log_mask,
)
from tests.dropmax_jax import oracle

KEY = jax.random.key(3)
SHAPES = [(6, 5), (2, 3, 4), (40, 100)]


def soft_labels(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    """Probabilities, some of them 0 and some rows one-hot."""
    random = np.random.default_rng(0)
    weights = random.gamma(0.3, size=shape)
    weights[..., 0] += 1e-3
    weights[weights < 0.05] = 0
    weights[..., 0] += 1e-3
    weights.reshape(-1, shape[-1])[0] = np.eye(shape[-1])[1]
    return jnp.asarray(weights / weights.sum(-1, keepdims=True), dtype)


def terms_of(key: Any, heads: Heads, labels: Any, temperature: Any) -> LossTerms:
    log_mask = sample_log_mask(key, posterior_logits(heads), temperature)
    return dropmax_loss_terms(heads, labels, log_mask)


LOSSES: dict[str, Callable[..., jax.Array]] = {
    "fused": lambda *args: dropmax_loss(*args[:3], temperature=args[3]),
    "terms": lambda *args: terms_of(*args).total,
    "elbo": lambda *args: elbo(*args[:3], temperature=args[3]),
}


# Their loss of each label has other classes in its sum.
FOR_INTEGERS_ONLY = ("sampled_softmax", "random_dropmax_logit", "dropmax_logit")
METHOD_LOSSES: dict[str, Callable[..., jax.Array]] = {
    name: lambda key, heads, labels, _, method=method: method.loss(key, heads, labels)
    for name, method in METHODS.items()
    if name not in FOR_INTEGERS_ONLY
}


def expected_loss(loss: Callable[..., jax.Array], heads: Heads, soft: Any, tau: Any) -> Any:
    shape, num_classes = heads.logits.shape[:-1], heads.logits.shape[-1]
    each = jax.lax.map(
        lambda label: loss(KEY, heads, jnp.full(shape, label), tau), jnp.arange(num_classes)
    )
    return jnp.sum(soft * jnp.moveaxis(each, 0, -1), axis=-1)


@pytest.mark.parametrize("name", METHOD_LOSSES)
def test_methods_give_the_expected_loss(name: str) -> None:
    heads, soft = oracle.random_heads(0, (6, 5)), soft_labels((6, 5))
    loss = METHOD_LOSSES[name]
    found, wanted = (
        jax.value_and_grad(lambda heads, of=of: of(heads).sum())(heads)
        for of in (
            lambda heads: loss(KEY, heads, soft, None),
            lambda heads: expected_loss(loss, heads, soft, None),
        )
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, wanted)


@pytest.mark.parametrize("name", FOR_INTEGERS_ONLY)
def test_other_methods_refuse_them(name: str) -> None:
    with pytest.raises(TypeError, match="labels must be an integer array, but has dtype float32"):
        METHODS[name].loss(KEY, oracle.random_heads(0, (6, 5)), soft_labels((6, 5)))


def check(name: str, heads: Heads, soft: Any, tolerance: float) -> None:
    loss = LOSSES[name]

    def both(of: Callable[..., Any]) -> Any:
        def total(heads: Heads, tau: Any) -> Any:
            losses = of(heads, tau)
            return losses.sum(), losses

        tau = jnp.asarray(0.3, heads.logits.dtype)
        return jax.jit(jax.grad(total, (0, 1), has_aux=True))(heads, tau)

    (found, found_tau), losses = both(lambda heads, tau: loss(KEY, heads, soft, tau))
    (wanted, wanted_tau), expected = both(lambda heads, tau: expected_loss(loss, heads, soft, tau))
    np.testing.assert_allclose(losses, expected, rtol=tolerance, atol=tolerance)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=10 * tolerance, atol=tolerance)
    np.testing.assert_allclose(found_tau, wanted_tau, rtol=100 * tolerance, atol=100 * tolerance)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_expected_loss(name: str, shape: tuple[int, ...]) -> None:
    check(name, oracle.random_heads(0, shape), soft_labels(shape), 1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_equals_it_for_logits_a_hundred_times_as_large(name: str) -> None:
    heads = jax.tree.map(lambda head: 100 * head, oracle.random_heads(0, (6, 5)))
    check(name, heads, soft_labels((6, 5)), 1e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [1, 100])
def test_equals_it_in_float64(name: str, scale: int) -> None:
    with oracle.enable_x64():
        heads = Heads(
            *(scale * jnp.asarray(h, jnp.float64) for h in oracle.random_heads(0, (6, 5)))
        )
        check(name, heads, soft_labels((6, 5), np.float64), 1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_one_hot_labels_are_integers(name: str) -> None:
    heads, labels = oracle.random_heads(0, (6, 5)), jnp.arange(6) % 5
    one_hot = jax.nn.one_hot(labels, 5)
    gradient = jax.grad(lambda heads, labels: LOSSES[name](KEY, heads, labels, 0.3).sum())
    for soft, hard in zip(gradient(heads, one_hot), gradient(heads, labels), strict=True):
        np.testing.assert_allclose(soft, hard, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        LOSSES[name](KEY, heads, one_hot, 0.3), LOSSES[name](KEY, heads, labels, 0.3), rtol=1e-6
    )


def test_terms_and_their_gradients() -> None:
    heads, soft = oracle.random_heads(0, (6, 5)), soft_labels((6, 5))
    for name in LossTerms._fields:

        def total(terms: Any, heads: Heads, soft: Any, name: str = name) -> jax.Array:
            return jnp.sum(getattr(terms(KEY, heads, soft), name))

        def fused(key: Any, heads: Heads, soft: Any) -> LossTerms:
            return dropmax_loss_and_terms(key, heads, soft, temperature=0.3)[1]

        def plain(key: Any, heads: Heads, soft: Any) -> LossTerms:
            return terms_of(key, heads, soft, 0.3)

        found, wanted = (jax.grad(total, (1, 2))(terms, heads, soft) for terms in (fused, plain))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), found, wanted
        )


def test_the_derivative_in_the_labels_is_the_loss_of_each() -> None:
    heads, soft = oracle.random_heads(0, (6, 5)), soft_labels((6, 5))
    found = jax.grad(lambda soft: dropmax_loss(KEY, heads, soft, temperature=0.3).sum())(soft)
    each = [dropmax_loss(KEY, heads, jnp.full(6, label), temperature=0.3) for label in range(5)]
    # They differ by a constant of the row, since the loss is defined for labels that sum to 1.
    found, wanted = np.asarray(found), np.stack(each, axis=-1)
    np.testing.assert_allclose(found - found[:, :1], wanted - wanted[:, :1], rtol=1e-4, atol=1e-4)


def test_second_derivatives_are_those_of_the_terms() -> None:
    with oracle.enable_x64():
        heads = Heads(*(jnp.asarray(h, jnp.float64) for h in oracle.random_heads(3, (2, 3))))
        direction = Heads(*(jnp.asarray(h, jnp.float64) for h in oracle.random_heads(4, (2, 3))))
        soft = soft_labels((2, 3), np.float64)

        def along(name: str) -> Any:
            gradient = jax.grad(lambda heads: LOSSES[name](KEY, heads, soft, 0.3).sum())
            return jax.jvp(gradient, (heads,), (direction,))[1]

        for one, other in zip(along("fused"), along("terms"), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_smoothed_labels_of_optax() -> None:
    heads, labels = oracle.random_heads(0, (6, 5)), jnp.arange(6) % 5
    smooth = optax.smooth_labels(jax.nn.one_hot(labels, 5), 0.1)
    assert np.isfinite(dropmax_loss(KEY, heads, smooth)).all()


def test_boolean_labels_are_for_two_classes() -> None:
    heads = oracle.random_heads(0, (4, 2))
    labels = jnp.array([True, False, True, True])
    np.testing.assert_array_equal(
        dropmax_loss(KEY, heads, labels), dropmax_loss(KEY, heads, labels.astype(int))
    )
    with pytest.raises(TypeError, match="labels must be an integer array, but has dtype bool"):
        dropmax_loss(KEY, oracle.random_heads(0, (4, 3)), labels)


@pytest.mark.parametrize("shape", [(6,), (5,), (6, 4), (5, 6)])
def test_probabilities_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"labels must be integers or have shape \(6, 5\)"):
        dropmax_loss(KEY, oracle.random_heads(0, (6, 5)), jnp.zeros(shape))
