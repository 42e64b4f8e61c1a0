"""The networks: shapes, the two ways to convolve, dropout, errors."""

import functools
from collections.abc import Callable

import chex
import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dropmax_jax import Heads
from dropmax_jax.networks import CNN, NETWORKS, LeNet, conv_relu_pool, convolution
from dropmax_jax.networks.layers import ConvReluPool, dropout

ALL_HEADS = Heads._fields


def plain_conv_relu_pool(images: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """The definition, by flax's own functions."""
    layer = nn.Conv(kernel.shape[-1], kernel.shape[:2], padding="VALID")
    outputs = layer.apply({"params": {"kernel": kernel, "bias": bias}}, images)
    assert isinstance(outputs, jax.Array)
    return nn.max_pool(nn.relu(outputs), (2, 2), (2, 2))


def inputs_of(shape: tuple[int, ...], features: int, size: int = 5) -> tuple[jax.Array, ...]:
    keys = jax.random.split(jax.random.key(0), 3)
    kernel = jax.random.normal(keys[1], (size, size, shape[-1], features))
    return jax.random.normal(keys[0], shape), kernel, jax.random.normal(keys[2], (features,))


# Few examples: each compiles anew.
@settings(deadline=None, max_examples=5)
@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    channels=st.integers(1, 3),
    features=st.integers(1, 4),
    size=st.sampled_from([1, 3, 5]),
)
def test_is_convolution_relu_and_pooling(
    batch: int, height: int, width: int, channels: int, features: int, size: int
) -> None:
    shape = (batch, 2 * height + size - 1, 2 * width + size - 1, channels)
    inputs = inputs_of(shape, features, size)
    weights = jax.random.normal(jax.random.key(1), (batch, height, width, features))

    @functools.partial(jax.jit, static_argnums=0)
    def outputs_and_gradients(function: Callable[..., jax.Array], *inputs: jax.Array) -> object:
        outputs, vjp = jax.vjp(function, *inputs)
        return outputs, vjp(weights)

    expected = outputs_and_gradients(plain_conv_relu_pool, *inputs)
    # On the CPU that runs the tests this is the blocked product.
    actual = outputs_and_gradients(conv_relu_pool, *inputs)
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 28, 28, 1), (3, 12, 12, 20), (3, 10, 6, 2)])
def test_native_and_blocked_agree(shape: tuple[int, ...]) -> None:
    images, kernel, bias = inputs_of(shape, 6)
    native = jax.jit(convolution._forward_native)(images, kernel, bias)
    blocked = jax.jit(convolution._forward_blocked)(images, kernel, bias)
    chex.assert_trees_all_close(blocked, native, rtol=1e-4, atol=1e-4)
    winner, gradient = native[1], jax.random.normal(jax.random.key(1), native[0].shape)
    chex.assert_trees_all_close(
        jax.jit(convolution._backward_blocked)(images, kernel, winner, gradient),
        jax.jit(convolution._backward_native)(images, kernel, winner, gradient),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("batch", [24, 23])
def test_a_large_batch_is_taken_in_parts(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images, kernel, bias = inputs_of((batch, 12, 12, 2), 3)
    whole, vjp = jax.vjp(conv_relu_pool, images, kernel, bias)
    assert convolution._num_chunks(images, kernel) == 1
    window_bytes = 16 * 72 * 4
    monkeypatch.setattr(convolution, "_CACHED_BYTES", 7 * window_bytes)
    # The fewest parts that fit and are of one size.
    assert convolution._num_chunks(images, kernel) == {24: 4, 23: 23}[batch]
    parts, vjp_of_parts = jax.vjp(conv_relu_pool, images, kernel, bias)
    chex.assert_trees_all_close(parts, whole, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(vjp_of_parts(whole), vjp(whole), rtol=1e-4, atol=1e-4)


def test_first_of_equal_maxima_gets_the_gradient_once() -> None:
    # A blank image ties everywhere: a gradient that counts each tie would be four times as large.
    images, kernel, bias = jnp.zeros((1, 8, 8, 1)), jnp.ones((5, 5, 1, 1)), jnp.ones(1)
    weights = jnp.arange(4.0).reshape(1, 2, 2, 1) + 1
    _, vjp = jax.vjp(conv_relu_pool, images, kernel, bias)
    images_gradient, _, bias_gradient = vjp(weights)
    assert bias_gradient.sum() == weights.sum()
    assert images_gradient.sum() == 25 * weights.sum()
    _, plain = jax.vjp(plain_conv_relu_pool, images, kernel, bias)
    chex.assert_trees_all_close(vjp(weights), plain(weights))


def test_no_gradient_through_a_dead_relu() -> None:
    images, kernel, bias = inputs_of((1, 8, 8, 2), 3)
    gradients = jax.grad(lambda *inputs: conv_relu_pool(*inputs).sum(), (0, 1, 2))(
        images, kernel, bias - 1e3
    )
    chex.assert_trees_all_equal(gradients, jax.tree.map(jnp.zeros_like, gradients))


@pytest.mark.parametrize("name", NETWORKS)
def test_network_by_vmap_over_parameters_in_a_scan(name: str) -> None:
    network = NETWORKS[name](heads=ALL_HEADS)
    images = jax.random.uniform(jax.random.key(2), (2, 28, 28, 1))
    seeds = jax.random.split(jax.random.key(0), 2)
    params = jax.jit(jax.vmap(lambda key: network.init(key, images)))(seeds)

    def logits(params: object) -> jax.Array:
        heads = network.apply(params, images)  # type: ignore[arg-type]
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
    params = LeNet().init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))["params"]
    kernel = params["ConvReluPool_1"]["kernel"]
    bound = np.sqrt(6 / (25 * 20 + 25 * 50))
    assert abs(kernel).max() <= bound
    assert abs(kernel).max() > 0.99 * bound
    biases = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 1]
    assert len(biases) == 4
    chex.assert_trees_all_equal(biases, jax.tree.map(jnp.zeros_like, biases))


def test_gives_the_heads_asked_for() -> None:
    images = jnp.zeros((2, 28, 28, 1))
    heads, _ = LeNet(num_classes=7, heads=("logits", "prior_logits")).init_with_output(
        jax.random.key(0), images
    )
    assert heads.logits.shape == heads.prior_logits.shape == (2, 7)
    assert heads.label_logits is None
    with pytest.raises(ValueError, match="heads must be among"):
        LeNet(heads=("logits", "logit")).init(jax.random.key(0), images)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_use_their_own_convolutions(platform: str) -> None:
    network = LeNet()
    images = jnp.zeros((4, 28, 28, 1))
    params = network.init(jax.random.key(0), images)

    def loss(params: object) -> jax.Array:
        heads = network.apply(params, images)  # type: ignore[arg-type]
        assert isinstance(heads, Heads)
        return heads.logits.sum()

    exported = jax.export.export(jax.jit(jax.grad(loss)), platforms=[platform])(params)
    # Forward twice; backward kernels twice and images once, the first layer's not being needed.
    assert exported.mlir_module().count("stablehlo.convolution") == 5


def test_bfloat16_computes_the_same_roughly() -> None:
    images = jax.random.uniform(jax.random.key(1), (8, 28, 28, 1))
    network = LeNet()
    params = network.init(jax.random.key(0), images)
    heads, half = network.apply(params, images), LeNet(dtype=jnp.bfloat16).apply(params, images)
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


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((8, 8, 1), (5, 5, 1, 2), (2,)), "images must have shape"),
        (((1, 8, 8, 1), (5, 5, 3, 2), (2,)), "kernel must have shape"),
        (((1, 8, 8, 1), (4, 4, 1, 2), (2,)), "kernel must have shape"),
        (((1, 8, 8, 1), (5, 5, 2), (2,)), "kernel must have shape"),
        (((1, 8, 8, 1), (5, 5, 1, 2), (3,)), "bias must have shape"),
        (((1, 7, 8, 1), (5, 5, 1, 2), (2,)), "even height and width"),
        (((1, 4, 4, 1), (5, 5, 1, 2), (2,)), "at least 5 pixels"),
    ],
)
def test_shapes_that_do_not_fit(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conv_relu_pool(*(jnp.zeros(shape) for shape in shapes))


def test_padding_keeps_the_size() -> None:
    outputs, _ = ConvReluPool(3, padding=2).init_with_output(
        jax.random.key(0), jnp.zeros((1, 28, 28, 1))
    )
    assert outputs.shape == (1, 14, 14, 3)
