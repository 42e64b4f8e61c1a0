"""The networks: shapes, dropout, types, and export for any batch."""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import Heads
from experiments.networks import CNN, NETWORKS, LeNet
from experiments.networks._layers import ConvReluPool, dropout
from tests.exporting import assert_exports

ALL_HEADS = Heads._fields


def params_of(network: nn.Module) -> Any:
    return jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))


EACH = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if "resnet" in name else [])
        for name in NETWORKS
        if name != "text"
    ],
)


@EACH
def test_networks_take_an_empty_batch(name: str) -> None:
    network = NETWORKS[name]()
    params = params_of(network)
    heads: Any = jax.jit(network.apply)(params, jnp.zeros((0, 28, 28, 1)))
    assert heads.logits.shape == (0, 10)


@EACH
def test_network_by_vmap_over_parameters_in_a_scan(name: str) -> None:
    network = NETWORKS[name](heads=ALL_HEADS)
    images = jax.random.uniform(jax.random.key(2), (2, 28, 28, 1))
    seeds = jax.random.split(jax.random.key(0), 2)
    params = jax.jit(jax.vmap(lambda key: network.init(key, images)))(seeds)

    def logits(params: object) -> jax.Array:
        heads = network.apply(params, images)
        assert isinstance(heads, Heads)
        return heads.logits

    _, scanned = jax.lax.scan(lambda carry, params: (carry, logits(params)), 0, params)
    together = jax.jit(jax.vmap(logits))(params)
    chex.assert_trees_all_close(together, scanned, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("network", "sizes"),
    [
        (LeNet(heads=ALL_HEADS), [5 * 5 * 20 + 20, 5 * 5 * 20 * 50 + 50, 801 * 500, 3 * 501 * 10]),
        (CNN(heads=ALL_HEADS), [26 * 32, 5 * 5 * 32 * 64 + 64, 3137 * 1024, 3 * 1025 * 10]),
    ],
)
def test_sizes_are_those_of_the_recipe(network: nn.Module, sizes: list[int]) -> None:
    params = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == sum(sizes)


def test_kernels_are_glorot_uniform_and_biases_zero() -> None:
    params = params_of(LeNet())["params"]
    kernel = params["ConvReluPool_1"]["kernel"]
    bound = np.sqrt(6 / (25 * 20 + 25 * 50))
    assert abs(kernel).max() <= bound
    assert abs(kernel).max() > 0.99 * bound
    biases = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 1]
    assert len(biases) == 4
    chex.assert_trees_all_equal(biases, jax.tree.map(jnp.zeros_like, biases))


def test_gives_the_heads_asked_for() -> None:
    images = jnp.zeros((2, 28, 28, 1))
    network = LeNet(num_classes=7, heads=("logits", "prior_logits"))
    heads, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), images)
    assert heads.logits.shape == heads.prior_logits.shape == (2, 7)
    assert heads.label_logits is None
    with pytest.raises(ValueError, match="heads must be among"):
        jax.eval_shape(LeNet(heads=("logits", "logit")).init, jax.random.key(0), images)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_use_their_own_convolutions(platform: str) -> None:
    network = LeNet()
    images = jnp.zeros((4, 28, 28, 1))
    params = jax.eval_shape(network.init, jax.random.key(0), images)

    def loss(params: object) -> jax.Array:
        heads = network.apply(params, images)  # type: ignore[arg-type]
        assert isinstance(heads, Heads)
        return heads.logits.sum()

    exported = jax.export.export(jax.jit(jax.grad(loss)), platforms=[platform])(params)
    # Forward has two. Backward has two for kernels and one for images: the first layer needs none.
    assert exported.mlir_module().count("stablehlo.convolution") == 5


def test_bfloat16_computes_the_same_roughly() -> None:
    images = jax.random.uniform(jax.random.key(1), (8, 28, 28, 1))
    network = LeNet()
    params = params_of(network)
    heads = jax.jit(network.apply)(params, images)
    half = jax.jit(LeNet(dtype=jnp.bfloat16).apply)(params, images)
    assert isinstance(heads, Heads)
    assert isinstance(half, Heads)
    assert half.logits.dtype == jnp.float32
    chex.assert_trees_all_close(half.logits, heads.logits, atol=0.05)


def test_dropout_keeps_the_mean_and_belongs_to_the_example() -> None:
    features = jnp.ones((1000, 20))
    keys = jax.random.split(jax.random.key(0), 1000)
    dropped = dropout(features, keys, 0.25)
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.75)}
    assert abs(float(dropped.mean()) - 1) < 0.02
    chex.assert_trees_all_equal(dropout(features[300:400], keys[300:400], 0.25), dropped[300:400])
    assert dropout(features, jax.random.PRNGKey(0), 0.25).shape == features.shape
    chex.assert_trees_all_equal(dropout(features, None, 0.25), features)
    with pytest.raises(ValueError, match="dropout rate"):
        dropout(features, None, 1.0)
    with pytest.raises(ValueError, match="for each of 1 examples, or one for all, but .* 1000"):
        dropout(features[:1], keys, 0.25)


def test_padding_keeps_the_size() -> None:
    layer, images = ConvReluPool(3, padding=2), jnp.zeros((1, 28, 28, 1))
    outputs, _ = jax.eval_shape(layer.init_with_output, jax.random.key(0), images)
    assert outputs.shape == (1, 14, 14, 3)


@EACH
def test_networks_are_exported_for_any_batch(name: str) -> None:
    network = NETWORKS[name](heads=Heads._fields)
    images = jax.random.uniform(jax.random.key(1), (3, 28, 28, 1))
    params = jax.jit(network.init)(jax.random.key(0), images)

    assert_exports(lambda images: network.apply(params, images), images)
