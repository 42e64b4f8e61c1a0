"""The remedies that the balanced loss was compared with."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import METHODS, Heads, Method
from experiments.many_classes.alternatives import ALTERNATIVES
from tests.dropmax_jax import oracle

KEY = jax.random.key(0)
LABELS = jnp.array([0, 1, 1, 0, 1])


@functools.partial(jax.jit, static_argnums=0)
def losses(method: Method, heads: Heads) -> jax.Array:
    own = Heads(**{name: getattr(heads, name) for name in method.heads})
    return method.loss(KEY, own, LABELS)


@pytest.mark.parametrize("name", ALTERNATIVES)
def test_terms_add_up_and_gradients_are_finite(name: str) -> None:
    _, method = ALTERNATIVES[name]
    heads = oracle.random_heads(0, (5, 30), 5.0)
    own = Heads(**{field: getattr(heads, field) for field in method.heads})

    @jax.jit
    def everything(heads: Heads) -> Any:
        gradients = jax.grad(lambda heads: method.loss(KEY, heads, LABELS).sum())(heads)
        return method.loss_and_terms(KEY, heads, LABELS), gradients, method.log_probs(heads)

    (loss, terms), gradients, log_probs = everything(own)
    if "," not in name and not name.endswith("per_class"):  # The terms are without their weights.
        np.testing.assert_allclose(sum(terms.values()), loss, rtol=1e-5, atol=1e-4)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "num_classes", "same"),
    [
        ("offset", 2, "dropmax"),
        ("kl_per_class", 10, "dropmax"),
        ("all_per_class", 10, "dropmax"),
        ("balanced, summed", 4, "dropmax_balanced"),
    ],
)
def test_is_another_at_one_number_of_classes_alone(name: str, num_classes: int, same: str) -> None:
    _, method = ALTERNATIVES[name]
    heads = oracle.random_heads(1, (5, num_classes))
    np.testing.assert_allclose(losses(method, heads), losses(METHODS[same], heads), rtol=1e-5)
    heads = oracle.random_heads(1, (5, num_classes + 3))
    assert np.all(np.abs(losses(method, heads) - losses(METHODS[same], heads)) > 1e-3)


def test_a_floor_changes_nothing_above_it() -> None:
    _, method = ALTERNATIVES["floor"]
    heads = oracle.random_heads(2, (5, 8))
    high = heads._replace(prior_logits=jnp.abs(jnp.asarray(heads.prior_logits)))
    high = high._replace(label_logits=jnp.abs(jnp.asarray(heads.label_logits)))
    np.testing.assert_allclose(losses(method, high), losses(METHODS["dropmax"], high), rtol=1e-5)
    one, other = (
        jax.grad(lambda heads, method=method: method.loss(KEY, heads, LABELS).sum())(high)
        for method in (method, METHODS["dropmax"])
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), one, other)
    low = high._replace(label_logits=jnp.full((5, 8), -9.0))
    assert np.all(losses(method, low) != losses(METHODS["dropmax"], low))


def test_biases_are_those_of_the_heads() -> None:
    _, method = ALTERNATIVES["biases"]
    heads = oracle.random_heads(3, (5, 8))
    moved = Heads(heads.logits, heads.prior_logits + 2.0, heads.label_logits + 2.0)
    np.testing.assert_allclose(losses(method, heads), losses(METHODS["dropmax"], moved), rtol=1e-5)
    np.testing.assert_allclose(method.log_probs(heads), METHODS["dropmax"].log_probs(moved))


def test_several_masks_vary_less_than_one() -> None:
    _, method = ALTERNATIVES["masks"]
    heads = oracle.random_heads(4, (30,))
    keys = jax.random.split(KEY, 300)

    def of_keys(method: Method) -> np.ndarray:
        return np.asarray(jax.vmap(lambda key: method.loss(key, heads, 3))(keys))

    several, one = of_keys(method), of_keys(METHODS["dropmax"])
    np.testing.assert_allclose(several.mean(), one.mean(), atol=6 * one.std() / 300**0.5)
    np.testing.assert_allclose(several.std(), one.std() / 2, rtol=0.3)


def test_methods_are_not_changed_by_what_is_made_of_them() -> None:
    for name in ("dropmax", "dropmax_balanced"):
        assert ALTERNATIVES[name][1] is METHODS[name]
        assert dataclasses.is_dataclass(METHODS[name])
