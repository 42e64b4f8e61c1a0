import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import METHODS, Heads, dropmax_log_probs, dropmax_loss_and_terms, sample_log_mask
from tests.dropmax_jax import oracle
from tests.dropmax_jax.methods.reference import (
    KEY,
    LABELS,
    assert_value_and_gradients,
    cross_entropy,
    float64_heads,
)
from tests.dropmax_jax.oracle import Array

dropmax_prior = METHODS["dropmax_prior"]
HEADS = oracle.random_heads(0, (6, 5))


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_value_and_gradients(temperature: float) -> None:
    o, prior, _ = float64_heads()
    target = oracle.one_hot(LABELS, 5)
    with oracle.enable_x64(True):
        # The noise that the loss draws is the mask's logit for logits 0 and τ = 1.
        noise_mask = np.asarray(sample_log_mask(KEY, jnp.zeros((6, 5), jnp.float64), 1.0))
        noise = noise_mask - np.log(-np.expm1(noise_mask))

        def formula(o: Array, prior: Array) -> Array:
            mask = np.where(target, 1.0, oracle.sigmoid((prior + noise) / temperature))
            of_target = -np.log(oracle.sigmoid(prior)[target.astype(bool)].reshape(-1))
            negative_entropy = oracle.negative_entropy(prior).sum(-1)
            nll = cross_entropy(o + np.log(mask + 1e-20))
            return np.asarray(nll + of_target + negative_entropy)

        assert_value_and_gradients(
            lambda o, prior: dropmax_prior.loss(
                KEY, Heads(o, prior), LABELS, temperature=temperature
            ),
            formula,
            (o, prior),
            rtol=1e-6,
        )


def test_terms_are_those_of_dropmax_whose_posterior_is_the_prior() -> None:
    heads = HEADS._replace(label_logits=jnp.zeros((6, 5)))
    found = dropmax_prior.terms(KEY, heads, LABELS)
    _, wanted = dropmax_loss_and_terms(KEY, heads, LABELS)
    for name, term in found.items():
        np.testing.assert_allclose(term, getattr(wanted, name), rtol=1e-5, atol=1e-5)


def test_the_target_is_never_dropped() -> None:
    heads = Heads(jnp.zeros((2000, 3)), jnp.full((2000, 3), -3.0))
    terms = dropmax_prior.terms(KEY, heads, jnp.zeros(2000, jnp.int32))
    assert float(terms["cross_entropy"].max()) < np.log(3) + 1e-5
    np.testing.assert_allclose(terms["kl_divergence"], np.log1p(np.exp(3.0)), rtol=1e-5)


def test_the_cross_entropy_trains_the_prior() -> None:
    """More often than not, a class that is retained takes probability from the target."""

    def nll(prior: jax.Array) -> jax.Array:
        heads = Heads(jnp.zeros((2000, 3)), jnp.broadcast_to(prior, (2000, 3)))
        labels = jnp.zeros(2000, jnp.int32)
        return dropmax_prior.terms(KEY, heads, labels)["cross_entropy"].mean()

    gradient = jax.grad(nll)(jnp.zeros(3))
    assert gradient[0] == 0.0
    assert np.all(gradient[1:] > 0.01)


def test_prediction_is_that_of_dropmax() -> None:
    np.testing.assert_array_equal(dropmax_prior.log_probs(HEADS), dropmax_log_probs(HEADS))
