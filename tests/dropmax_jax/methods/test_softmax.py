import jax
import jax.numpy as jnp
import numpy as np
import optax

from dropmax_jax import METHODS, Heads
from tests.dropmax_jax import oracle
from tests.dropmax_jax.methods.reference import (
    KEY,
    LABELS,
    assert_value_and_gradients,
    cross_entropy,
    float64_heads,
)

softmax = METHODS["softmax"]


def test_value_and_gradient() -> None:
    o, _, _ = float64_heads()
    with oracle.enable_x64(True):
        assert_value_and_gradients(
            lambda o: softmax.loss(KEY, Heads(o), LABELS), cross_entropy, (o,)
        )


def test_same_as_optax() -> None:
    logits = oracle.random_heads(0, (6, 5)).logits
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS)
    np.testing.assert_allclose(
        softmax.loss(KEY, Heads(logits), LABELS), expected, rtol=1e-5, atol=1e-6
    )


def test_the_logits_have_no_zero() -> None:
    logits = oracle.random_heads(0, (6, 5)).logits
    np.testing.assert_allclose(
        softmax.loss(KEY, Heads(logits + 100.0), LABELS),
        softmax.loss(KEY, Heads(logits), LABELS),
        atol=1e-4,
    )


def test_nothing_is_drawn() -> None:
    heads = Heads(jnp.ones((6, 5)))
    np.testing.assert_array_equal(
        softmax.loss(jax.random.key(1), heads, LABELS), softmax.loss(KEY, heads, LABELS)
    )
