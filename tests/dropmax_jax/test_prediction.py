"""The uncertainty of many masks is that of their predictions, in little memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import Heads, dropmax_uncertainty, metrics, sample_dropmax_log_probs
from tests.dropmax_jax import oracle

KEY = jax.random.key(0)


@pytest.mark.parametrize("num_samples", [1, 2, 30])
def test_uncertainty_is_that_of_the_samples(num_samples: int) -> None:
    heads = oracle.random_heads(0, (6, 5))
    samples = jnp.concatenate(
        [
            sample_dropmax_log_probs(jax.random.fold_in(KEY, number), heads, 1)
            for number in range(num_samples)
        ]
    )
    found = jax.jit(dropmax_uncertainty, static_argnums=2)(KEY, heads, num_samples)
    mean = metrics.mean_log_probs(samples)
    np.testing.assert_allclose(found.mean_log_probs, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        found.predictive_entropy, metrics.predictive_entropy(mean), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        found.mutual_information, metrics.mutual_information(samples), rtol=1e-3, atol=1e-5
    )


def test_uncertainty_needs_the_memory_of_a_few_samples() -> None:
    heads = Heads(jnp.zeros((256, 512)), jnp.zeros((256, 512)))
    program = jax.jit(dropmax_uncertainty, static_argnums=2).lower(KEY, heads, 50).compile()
    memory = program.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 10 * heads.logits.nbytes


def test_classes_that_do_not_exist_are_certain_not_to_be() -> None:
    heads = oracle.random_heads(0, (6, 5))
    where = np.array([True, False, True, True, False])
    found = dropmax_uncertainty(KEY, heads, 5, where=where[None])
    np.testing.assert_array_equal(found.mean_log_probs[:, ~where], -np.inf)
    few = Heads(heads.logits[:, where], heads.prior_logits[:, where])
    assert np.all(found.predictive_entropy <= np.log(3) + 1e-6)
    assert np.all(np.isfinite(dropmax_uncertainty(KEY, few, 5).mutual_information))
