"""Predictions of linear heads are those of the heads."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import Heads, dropmax_linear_log_probs, dropmax_linear_top_k, dropmax_log_probs
from tests.dropmax_jax.linear.heads import inputs, whole

GIVEN = inputs((2, 3, 11, 4))
LAYERS = GIVEN.kernels._replace(label_logits=None), GIVEN.biases
WHERE = {
    "all": None,
    "classes": (jnp.arange(11) % 3 > 0)[None, None],
    "classes of each": jax.random.bernoulli(jax.random.key(0), 0.6, (2, 3, 11)),
    "examples": jnp.array([[True, False, True], [True, True, True]]),
}


def expected_log_probs(where: Any) -> jax.Array:
    return dropmax_log_probs(whole(GIVEN.features, GIVEN.kernels, GIVEN.biases), where=where)


@pytest.mark.parametrize("where", WHERE.values(), ids=WHERE)
def test_chosen_classes(where: Any) -> None:
    classes = jax.random.randint(jax.random.key(1), (2, 3, 5), 0, 11)
    actual = dropmax_linear_log_probs(
        GIVEN.features, classes, *LAYERS, where=where, block_size=(2, 4)
    )
    expected = jnp.take_along_axis(expected_log_probs(where), classes, axis=-1)
    counts = WHERE["examples"][..., None] if where is WHERE["examples"] else True
    np.testing.assert_allclose(
        jnp.where(counts, actual, 0), jnp.where(counts, expected, 0), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("where", [WHERE["all"], WHERE["classes"]], ids=["all", "classes"])
@pytest.mark.parametrize("k", [1, 6])
def test_the_largest(where: Any, k: int) -> None:
    log_probs, classes = dropmax_linear_top_k(
        GIVEN.features, k, *LAYERS, where=where, block_size=(2, 4)
    )
    expected, expected_classes = jax.lax.top_k(expected_log_probs(where), k)
    np.testing.assert_allclose(log_probs, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(classes, expected_classes)


def test_fewer_classes_than_asked_for() -> None:
    where = (jnp.arange(11) == 4)[None, None]
    log_probs, classes = dropmax_linear_top_k(GIVEN.features, 3, *LAYERS, where=where)
    np.testing.assert_array_equal(classes[..., 0], 4)
    np.testing.assert_allclose(log_probs[..., 0], 0, atol=1e-6)
    assert np.all(np.isneginf(log_probs[..., 1:]))


def test_gradients() -> None:
    def total(kernels: Heads, in_blocks: bool) -> jax.Array:
        if in_blocks:
            found = dropmax_linear_log_probs(
                GIVEN.features, GIVEN.labels[..., None], kernels, GIVEN.biases, block_size=(2, 4)
            )
        else:
            log_probs = dropmax_log_probs(whole(GIVEN.features, kernels, GIVEN.biases))
            found = jnp.take_along_axis(log_probs, GIVEN.labels[..., None], axis=-1)
        return jnp.sum(found)

    actual, expected = (jax.grad(total)(GIVEN.kernels, in_blocks) for in_blocks in (True, False))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), actual, expected)


def test_no_examples() -> None:
    nothing = jnp.zeros((0, 4))
    assert dropmax_linear_log_probs(nothing, jnp.zeros((0, 2), int), *LAYERS).shape == (0, 2)
    assert dropmax_linear_top_k(nothing, 3, *LAYERS)[1].shape == (0, 3)


def test_examples_without_classes_are_finite() -> None:
    where = jnp.zeros((2, 3, 11), bool)
    assert jnp.all(jnp.isfinite(dropmax_linear_top_k(GIVEN.features, 3, *LAYERS, where=where)[0]))


def test_a_class_of_logit_minus_infinity_has_no_probability() -> None:
    biases = GIVEN.biases._replace(logits=GIVEN.biases.logits.at[4].set(-jnp.inf))
    found = dropmax_linear_log_probs(
        GIVEN.features, jnp.full((2, 3, 1), 4), GIVEN.kernels, biases, block_size=(2, 4)
    )
    assert jnp.all(jnp.isneginf(found))
