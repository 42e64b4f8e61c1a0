import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import METHODS, Heads, dropmax_log_probs, sample_log_mask
from tests.dropmax_jax import oracle
from tests.dropmax_jax.methods.reference import (
    KEY,
    LABELS,
    assert_value_and_gradients,
    cross_entropy,
    float64_heads,
)
from tests.dropmax_jax.oracle import Array

METHOD = METHODS["dropmax_marginal"]
HEADS = oracle.random_heads(0, (6, 5))


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_value_and_gradients(temperature: float) -> None:
    o, prior, _ = float64_heads()
    with oracle.enable_x64(True):
        # The noise that the loss draws is the mask's logit for logits 0 and τ = 1.
        noise_mask = np.asarray(sample_log_mask(KEY, jnp.zeros((1, 6, 5), jnp.float64), 1.0))[0]
        noise = noise_mask - np.log(-np.expm1(noise_mask))

        def formula(o: Array, prior: Array) -> Array:
            mask = oracle.sigmoid((prior + noise) / temperature)
            negative_entropy = oracle.negative_entropy(prior).sum(-1)
            return np.asarray(cross_entropy(o + np.log(mask + 1e-20)) + negative_entropy)

        assert_value_and_gradients(
            lambda o, prior: METHOD.loss(KEY, Heads(o, prior), LABELS, temperature=temperature),
            formula,
            (o, prior),
            rtol=1e-6,
        )


def test_softmax_as_all_classes_are_retained() -> None:
    heads = Heads(HEADS.logits, jnp.full((6, 5), 50.0))
    softmax = METHODS["softmax"]
    np.testing.assert_allclose(
        METHOD.loss(KEY, heads, LABELS), softmax.loss(KEY, heads, LABELS), atol=1e-5
    )
    np.testing.assert_allclose(METHOD.log_probs(heads), softmax.log_probs(heads), atol=1e-5)


def test_masks_are_those_of_the_prior() -> None:
    # In expectation, for masks of 0 and 1.
    heads = Heads(jnp.broadcast_to(HEADS.logits, (500, 6, 5)), jnp.zeros((500, 6, 5)))
    labels = jnp.broadcast_to(jnp.asarray(LABELS), (500, 6))
    terms = METHOD.terms(KEY, heads, labels, temperature=1e-4)
    np.testing.assert_allclose(terms["prior_negative_entropy"], -5 * np.log(2), rtol=1e-5)
    masks = np.random.default_rng(0).random((500, 6, 5)) < 0.5
    masked = oracle.log_softmax(np.asarray(heads.logits) + np.log(masks + 1e-20))
    expected = -np.take_along_axis(masked, np.asarray(labels)[..., None], -1)[..., 0]
    error = np.sqrt((expected.var(0) + terms["cross_entropy"].var(0)) / 500)
    assert np.all(np.abs(terms["cross_entropy"].mean(0) - expected.mean(0)) < 5 * error)


def test_the_target_may_be_dropped_which_raises_its_probability() -> None:
    keys = jax.random.split(KEY, 2000)
    heads = Heads(jnp.zeros(3), jnp.zeros(3))

    def loss(prior: jax.Array) -> jax.Array:
        heads = Heads(jnp.zeros(3), prior)
        return jax.vmap(lambda key: METHOD.terms(key, heads, jnp.array(0))["cross_entropy"])(keys)

    assert jnp.mean(loss(heads.prior_logits) > 10.0) > 0.2
    gradient = jax.grad(lambda prior: loss(prior).mean())(jnp.zeros(3))
    assert gradient[0] < 0.0 < gradient[1]


def test_prediction_is_that_of_dropmax() -> None:
    np.testing.assert_array_equal(METHOD.log_probs(HEADS), dropmax_log_probs(HEADS))
