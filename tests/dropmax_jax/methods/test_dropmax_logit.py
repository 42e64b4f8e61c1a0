import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import METHODS, Heads, dropmax_loss_terms, posterior_logits, sample_log_mask
from dropmax_jax.methods.dropmax_logit import sample_dropmax_logit_log_probs
from tests.dropmax_jax import oracle
from tests.dropmax_jax.methods.reference import (
    KEY,
    LABELS,
    TARGET,
    assert_value_and_gradients,
    cross_entropy,
    float64_heads,
)
from tests.dropmax_jax.oracle import Array

method = METHODS["dropmax_logit"]
HEADS = oracle.random_heads(0, (6, 5))


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_value_and_gradients(temperature: float) -> None:
    o, prior, label = float64_heads()
    with oracle.enable_x64(True):
        # The noise that the loss draws is the mask's logit for logits 0 and τ = 1.
        noise_mask = np.asarray(sample_log_mask(KEY, jnp.zeros((6, 5), jnp.float64), 1.0))
        noise = noise_mask - np.log(-np.expm1(noise_mask))

        def formula(o: Array, p: Array, r: Array) -> Array:
            terms = oracle.loss_terms(
                o, p, r, LABELS, noise, temperature, 0.0, prior_in_posterior=prior
            )
            mask = np.where(TARGET, 1.0, oracle.sigmoid((prior + r + noise) / temperature))
            terms["cross_entropy"] = cross_entropy(o * mask)
            return np.asarray(sum(terms.values()))

        assert_value_and_gradients(
            lambda o, p, r: method.loss(KEY, Heads(o, p, r), LABELS, temperature=temperature),
            formula,
            (o, prior, label),
            rtol=1e-6,
        )


def test_only_the_cross_entropy_is_not_that_of_dropmax() -> None:
    terms = method.terms(KEY, HEADS, jnp.asarray(LABELS))
    log_mask = sample_log_mask(KEY, posterior_logits(HEADS))
    for name, term in dropmax_loss_terms(HEADS, LABELS, log_mask)._asdict().items():
        assert np.allclose(terms[name], term) == (name != "cross_entropy")


def test_softmax_as_all_classes_are_retained() -> None:
    heads = Heads(HEADS.logits, *jnp.full((2, 6, 5), 50.0))
    softmax = METHODS["softmax"]
    np.testing.assert_allclose(
        method.terms(KEY, heads, jnp.asarray(LABELS))["cross_entropy"],
        softmax.loss(KEY, heads, LABELS),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(method.log_probs(heads), softmax.log_probs(heads), atol=1e-5)


def test_a_dropped_class_has_the_logit_zero_and_the_target_its_own() -> None:
    heads = Heads(jnp.array([3.0, 9.0, 9.0]), *jnp.full((2, 3), -50.0))
    loss = method.terms(KEY, heads, jnp.array(0))["cross_entropy"]
    np.testing.assert_allclose(loss, np.log(np.exp(3) + 2) - 3, rtol=1e-5)


def test_prediction() -> None:
    o, prior = np.asarray(HEADS.logits), np.asarray(HEADS.prior_logits)
    expected = oracle.log_softmax(o * oracle.sigmoid(prior))
    np.testing.assert_allclose(method.log_probs(HEADS), expected, rtol=1e-5, atol=1e-5)


def test_sampled_predictions_average_to_those_of_bernoulli_masks() -> None:
    heads = Heads(jnp.array([1.0, 2.0]), jnp.array([0.0, 50.0]))
    samples = sample_dropmax_logit_log_probs(KEY, heads, 20_000, temperature=1e-4)
    expected = (oracle.sigmoid(np.array(-1.0)) + oracle.sigmoid(np.array(-2.0))) / 2
    np.testing.assert_allclose(jnp.exp(samples).mean(0)[0], expected, atol=0.005)


def test_heads_of_two_shapes_are_refused() -> None:
    heads = HEADS._replace(prior_logits=jnp.zeros((6, 4)))
    with pytest.raises(ValueError, match=r"heads.prior_logits must have shape \(6, 5\)"):
        method.log_probs(heads)
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        sample_dropmax_logit_log_probs(KEY, HEADS, 0)
