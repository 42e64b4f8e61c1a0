"""Programs exported for any number of examples: a symbol stands for the batch."""

from typing import Any

import chex
import jax
import jax.export
import jax.numpy as jnp
import pytest

from dropmax_jax import (
    METHODS,
    Heads,
    dropmax_log_probs,
    dropmax_loss_and_terms,
    dropmax_uncertainty,
    metrics,
)
from tests.dropmax_jax import oracle
from tests.exporting import assert_exports

HEADS = Heads(*(jnp.asarray(head) for head in oracle.random_heads(0, (3, 10))))
LABELS = jnp.array([0, 9, 4])


@pytest.mark.parametrize("name", METHODS)
def test_methods(name: str) -> None:
    if name == "sampled_softmax":
        pytest.skip("jax.random.permutation is for known sizes only")
    method, key = METHODS[name], jax.random.key(0)

    def loss_and_gradient(heads: Heads, labels: jax.Array) -> Any:
        return jax.value_and_grad(lambda heads: method.loss(key, heads, labels).mean())(heads)

    def predictions(heads: Heads, labels: jax.Array) -> Any:
        fitted = method.fit(heads, labels) if method.fit else None
        samples = method.sample_log_probs and method.sample_log_probs(key, heads, 2)
        return method.log_probs(heads, fitted), samples

    assert_exports(loss_and_gradient, HEADS, LABELS)
    assert_exports(predictions, HEADS, LABELS)


def test_what_goes_in_and_out_can_be_stored() -> None:
    def everything(heads: Heads, labels: jax.Array) -> Any:
        key = jax.random.key(0)
        log_probs = dropmax_log_probs(heads)
        return (
            heads,
            dropmax_loss_and_terms(key, heads, labels)[1],
            dropmax_uncertainty(key, heads, 2),
            metrics.reliability_bins(log_probs, labels),
        )

    exported = jax.export.export(jax.jit(everything))(HEADS, LABELS)
    again = jax.export.deserialize(exported.serialize())
    chex.assert_trees_all_close(
        again.call(HEADS, LABELS), jax.jit(everything)(HEADS, LABELS), rtol=1e-6
    )
