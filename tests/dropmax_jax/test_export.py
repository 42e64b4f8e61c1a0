"""Programs exported for any number of examples: a symbol stands for the batch."""

from typing import Any

import chex
import jax
import jax.export
import jax.numpy as jnp
import pytest

from dropmax_jax import METHODS, Heads
from dropmax_jax.networks import NETWORKS, conv_relu_pool
from tests.dropmax_jax import oracle

PLATFORMS = ["cpu", "cuda", "tpu"]
HEADS = Heads(*(jnp.asarray(head) for head in oracle.random_heads(0, (3, 10))))
LABELS = jnp.array([0, 9, 4])


def assert_exports(function: Any, *args: Any) -> None:
    """The function gives the same when exported for any length of the arguments' first axis."""
    (batch,) = jax.export.symbolic_shape("batch")

    def any_length(array: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, *array.shape[1:]), array.dtype)

    jitted = jax.jit(function)
    exported = jax.export.export(jitted, platforms=PLATFORMS)(*jax.tree.map(any_length, args))
    chex.assert_trees_all_close(exported.call(*args), jitted(*args), rtol=1e-5, atol=1e-5)


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


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    network = NETWORKS[name](heads=Heads._fields)
    images = jax.random.uniform(jax.random.key(1), (3, 28, 28, 1))
    params = jax.jit(network.init)(jax.random.key(0), images)

    assert_exports(lambda images: network.apply(params, images), images)


def test_convolution() -> None:
    images = jax.random.uniform(jax.random.key(1), (3, 8, 8, 2))
    kernel = jax.random.normal(jax.random.key(2), (5, 5, 2, 3))

    def gradient(images: jax.Array) -> jax.Array:
        return jax.grad(lambda kernel: conv_relu_pool(images, kernel, jnp.zeros(3)).sum())(kernel)

    assert_exports(gradient, images)
