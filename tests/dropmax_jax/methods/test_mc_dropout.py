import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import METHODS
from dropmax_jax.methods.mc_dropout import mean_log_probs
from tests.dropmax_jax import oracle
from tests.dropmax_jax.methods.reference import KEY, LABELS, heads_for

mc_dropout = METHODS["mc_dropout"]
SAMPLES = oracle.log_softmax(np.random.default_rng(0).normal(scale=3, size=(7, 6, 5)))


def test_all_but_the_dropout_is_the_softmax() -> None:
    softmax = METHODS["softmax"]
    heads = heads_for(softmax, oracle.random_heads(0, (6, 5)))
    np.testing.assert_array_equal(
        mc_dropout.loss(KEY, heads, LABELS), softmax.loss(KEY, heads, LABELS)
    )
    np.testing.assert_array_equal(mc_dropout.log_probs(heads), softmax.log_probs(heads))
    assert (mc_dropout.dropout_rate, mc_dropout.num_samples) == (0.5, 50)
    assert all(not row.num_samples for name, row in METHODS.items() if name != "mc_dropout")


def test_mean() -> None:
    np.testing.assert_allclose(
        mean_log_probs(jnp.asarray(SAMPLES, jnp.float32)),
        np.log(np.exp(SAMPLES).mean(0)),
        rtol=1e-5,
        atol=1e-6,
    )


def test_mean_of_probabilities_that_a_float_cannot_hold() -> None:
    samples = jnp.array([[-1e4, 0.0], [-1e4, 0.0]])
    np.testing.assert_allclose(mean_log_probs(samples), [-1e4, 0.0])


def test_one_sample_is_its_own_mean() -> None:
    np.testing.assert_allclose(mean_log_probs(SAMPLES[:1]), SAMPLES[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (0, 5)])
def test_no_samples(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"sampled_log_probs must have shape \[S, ..., K\]"):
        mean_log_probs(jnp.zeros(shape))
