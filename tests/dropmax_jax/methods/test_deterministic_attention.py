import jax.numpy as jnp
import numpy as np

from dropmax_jax import METHODS, Heads
from tests.dropmax_jax import oracle
from tests.dropmax_jax.methods.reference import (
    KEY,
    LABELS,
    assert_value_and_gradients,
    cross_entropy,
    float64_heads,
)

attention = METHODS["deterministic_attention"]
HEADS = oracle.random_heads(0, (6, 5))


def test_value_and_gradients() -> None:
    o, prior, _ = float64_heads()
    with oracle.enable_x64(True):
        assert_value_and_gradients(
            lambda o, prior: attention.loss(KEY, Heads(o, prior), LABELS),
            lambda o, prior: cross_entropy(o + np.log(oracle.sigmoid(prior))),
            (o, prior),
        )


def test_prediction_is_what_is_trained() -> None:
    log_probs = attention.log_probs(HEADS)
    np.testing.assert_allclose(
        attention.loss(KEY, HEADS, LABELS),
        -np.take_along_axis(np.asarray(log_probs), LABELS[:, None], 1)[:, 0],
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        log_probs,
        oracle.predict(np.asarray(HEADS.logits), np.asarray(HEADS.prior_logits), 0.0),
        rtol=1e-5,
        atol=1e-5,
    )


def test_softmax_if_the_attention_is_the_same_everywhere() -> None:
    softmax = METHODS["softmax"].loss(KEY, HEADS, LABELS)
    for prior in (-50.0, -1.0, 50.0):
        heads = Heads(HEADS.logits, jnp.full((6, 5), prior))
        np.testing.assert_allclose(attention.loss(KEY, heads, LABELS), softmax, atol=1e-4)


def test_attention_far_below_any_epsilon_still_counts() -> None:
    heads = Heads(jnp.zeros(2), jnp.array([-1000.0, -1001.0]))
    found = np.exp(attention.log_probs(heads))[0]
    np.testing.assert_allclose(found, oracle.sigmoid(np.array(1.0)), rtol=1e-6)
