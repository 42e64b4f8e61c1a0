"""Convolution, relu and pooling in one: the two ways to compute it, gradients, errors."""

import functools
from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from experiments.networks.convolution import _tiles, conv_relu_pool, fused
from tests.dropmax_jax import oracle
from tests.exporting import assert_exports


def plain_conv_relu_pool(
    images: jax.Array, kernel: jax.Array, bias: jax.Array, padding: int = 0
) -> jax.Array:
    """The definition, from flax's own functions."""
    layer = nn.Conv(kernel.shape[-1], kernel.shape[:2], padding=padding)
    outputs = layer.apply({"params": {"kernel": kernel, "bias": bias}}, images)
    assert isinstance(outputs, jax.Array)
    return nn.max_pool(nn.relu(outputs), (2, 2), (2, 2))


def inputs_of(shape: tuple[int, ...], features: int, size: int = 5) -> tuple[jax.Array, ...]:
    keys = jax.random.split(jax.random.key(0), 3)
    kernel = jax.random.normal(keys[1], (size, size, shape[-1], features))
    return jax.random.normal(keys[0], shape), kernel, jax.random.normal(keys[2], (features,))


@functools.partial(jax.jit, static_argnums=0)
def gradients_of(
    function: Callable[..., jax.Array], weights: jax.Array, *inputs: jax.Array
) -> tuple[jax.Array, ...]:
    """Gradients of the weighted sum of the outputs with respect to each input."""
    gradients: tuple[jax.Array, ...] = jax.vjp(function, *inputs)[1](weights)
    return gradients


# There are few examples, because each compiles anew.
@settings(max_examples=5)
@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    channels=st.integers(1, 3),
    features=st.integers(1, 4),
    size=st.integers(1, 6),
    padding=st.integers(0, 2),
)
def test_is_convolution_relu_and_pooling(
    batch: int, height: int, width: int, channels: int, features: int, size: int, padding: int
) -> None:
    inner = size - 1 - 2 * padding
    height, width = max(height, 1 - inner // 2), max(width, 1 - inner // 2)
    inputs = inputs_of((batch, 2 * height + inner, 2 * width + inner, channels), features, size)
    weights = jax.random.normal(jax.random.key(1), (batch, height, width, features))

    @functools.partial(jax.jit, static_argnums=0)
    def outputs_and_gradients(function: Callable[..., jax.Array], *inputs: jax.Array) -> object:
        outputs, vjp = jax.vjp(functools.partial(function, padding=padding), *inputs)
        return outputs, vjp(weights)

    expected = outputs_and_gradients(plain_conv_relu_pool, *inputs)
    # The CPU that runs the tests computes this by tiles.
    actual = outputs_and_gradients(conv_relu_pool, *inputs)
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "padding"),
    [
        ((3, 28, 28, 1), 0),
        ((3, 12, 12, 20), 0),
        ((3, 14, 6, 2), 2),
        # Three windows below each other and two beside: the image lacks two columns of the last.
        ((2, 60, 30, 3), 2),
    ],
)
def test_native_and_tiles_agree(shape: tuple[int, ...], padding: int) -> None:
    inputs = inputs_of(shape, 6)
    forwards, backwards = (
        [jax.jit(functools.partial(function, padding=padding)) for function in functions]
        for functions in (
            (fused._forward_native, _tiles.forward),
            (fused._backward_native, _tiles.backward),
        )
    )
    native, tiles = (forward(*inputs) for forward in forwards)
    chex.assert_trees_all_close(tiles, native, rtol=1e-4, atol=1e-4)
    winner, gradient = native[1], jax.random.normal(jax.random.key(1), native[0].shape)
    native, tiles = (backward(*inputs[:2], winner, gradient) for backward in backwards)
    chex.assert_trees_all_close(tiles, native, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", [3, 5])
def test_tiles_round_little(size: int) -> None:
    images, kernel, bias = inputs_of((4, 7 + size, 7 + size, 20), 30, size)
    outputs, _ = jax.jit(functools.partial(_tiles.forward, padding=0))(images, kernel, bias)
    with oracle.enable_x64():
        images, kernel, bias = (array.astype(jnp.float64) for array in (images, kernel, bias))
        exact = plain_conv_relu_pool(images, kernel, bias)
        alive = exact > 0
        error = jnp.sqrt(jnp.mean((outputs - exact)[alive] ** 2))
        assert error < 6e-7 * jnp.std(exact[alive])


@pytest.mark.parametrize("batch", [24, 23])
def test_a_large_batch_is_taken_in_parts(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images, kernel, bias = inputs_of((batch, 12, 12, 2), 3)

    def parts() -> int:
        return _tiles._plan(images.shape, kernel.shape, padding=0).parts

    def outputs_and_gradients(images: jax.Array, kernel: jax.Array, bias: jax.Array) -> Any:
        outputs, vjp = jax.vjp(conv_relu_pool, images, kernel, bias)
        return outputs, vjp(outputs)

    assert parts() == 1
    whole, gradients = jax.jit(outputs_and_gradients)(images, kernel, bias)
    image_bytes = 4 * 2 * 7 * 12 * (2 + 3)
    monkeypatch.setattr(_tiles, "_PART_BYTES", 7 * image_bytes)
    assert parts() == 4  # The last part is padded if the batch is 23.
    jax.clear_caches()  # Compiled programs do not know of the other size.
    in_parts, gradients_in_parts = jax.jit(outputs_and_gradients)(images, kernel, bias)
    chex.assert_trees_all_close(in_parts, whole, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(gradients_in_parts, gradients, rtol=1e-4, atol=2e-3)


def test_an_empty_batch_is_no_error() -> None:
    images, kernel, bias = inputs_of((0, 12, 12, 2), 3)
    outputs = jax.jit(conv_relu_pool)(images, kernel, bias)
    assert outputs.shape == (0, 4, 4, 3)
    assert not gradients_of(conv_relu_pool, outputs, images, kernel, bias)[1].any()


def test_first_of_equal_maxima_gets_the_gradient_once() -> None:
    # A blank image ties everywhere: a gradient that counts each tie would be four times as large.
    images, kernel, bias = jnp.zeros((1, 8, 8, 1)), jnp.ones((5, 5, 1, 1)), jnp.ones(1)
    weights = jnp.arange(4.0).reshape(1, 2, 2, 1) + 1
    gradients = gradients_of(conv_relu_pool, weights, images, kernel, bias)
    images_gradient, _, bias_gradient = gradients
    assert bias_gradient.sum() == weights.sum()
    assert images_gradient.sum() == 25 * weights.sum()
    plain = gradients_of(plain_conv_relu_pool, weights, images, kernel, bias)
    chex.assert_trees_all_close(gradients, plain)


def test_one_of_equal_maxima_gets_the_gradient_where_rounding_decides() -> None:
    # All pixels are alike, as after a first layer. Several channels sum them in another order.
    images = jnp.full((1, 8, 8, 3), 0.1)
    _, kernel, _ = inputs_of(images.shape, 4)
    weights = jnp.arange(4.0).reshape(1, 2, 2, 1) + jnp.arange(4.0) + 1
    inputs = images, kernel, jnp.full(4, 100.0)
    found = gradients_of(conv_relu_pool, weights, *inputs)
    plain = gradients_of(plain_conv_relu_pool, weights, *inputs)
    for actual, expected in zip(found, plain, strict=True):
        sums = actual.sum((0, 1, 2)[: actual.ndim - 1]), expected.sum((0, 1, 2)[: actual.ndim - 1])
        chex.assert_trees_all_close(*sums, rtol=1e-4)


def test_no_gradient_through_a_dead_relu() -> None:
    images, kernel, bias = inputs_of((1, 8, 8, 2), 3)
    gradients = gradients_of(conv_relu_pool, jnp.ones((1, 2, 2, 3)), images, kernel, bias - 1e3)
    chex.assert_trees_all_equal(gradients, jax.tree.map(jnp.zeros_like, gradients))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((8, 8, 1), (5, 5, 1, 2), (2,)), "images must have shape"),
        (((1, 8, 8, 1), (5, 5, 3, 2), (2,)), "kernel must have shape"),
        (((1, 8, 8, 1), (5, 4, 1, 2), (2,)), "kernel must have shape"),
        (((1, 8, 8, 1), (0, 0, 1, 2), (2,)), "kernel must have shape"),
        (((1, 8, 8, 1), (5, 5, 2), (2,)), "kernel must have shape"),
        (((1, 8, 8, 1), (5, 5, 1, 2), (3,)), "bias must have shape"),
        (((1, 7, 8, 1), (5, 5, 1, 2), (2,)), "3 x 4 outputs"),
        (((1, 4, 4, 1), (5, 5, 1, 2), (2,)), "0 x 0 outputs"),
        (((1, 8, 8, 1), (4, 4, 1, 2), (2,)), "5 x 5 outputs of a 4 x 4 kernel"),
        (((1, 8, 8, 0), (5, 5, 0, 2), (2,)), "must have channels and features"),
        (((1, 8, 8, 1), (5, 5, 1, 0), (0,)), "must have channels and features"),
    ],
)
def test_shapes_that_do_not_fit(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        images, kernel, bias = map(jnp.zeros, shapes)
        conv_relu_pool(images, kernel, bias)


@pytest.mark.parametrize(
    "dtypes", [("bfloat16", "bfloat16", "float32"), ("uint8", "uint8", "uint8")]
)
def test_types_that_do_not_fit(dtypes: tuple[str, ...]) -> None:
    images, kernel, bias = (
        array.astype(dtype) for array, dtype in zip(inputs_of((1, 8, 8, 1), 2), dtypes, strict=True)
    )
    with pytest.raises(TypeError, match=f"of one type, not {', '.join(dtypes[:2])} and "):
        conv_relu_pool(images, kernel, bias)


@pytest.mark.parametrize("name", ["images", "kernel", "bias"])
def test_what_is_no_array(name: str) -> None:
    arrays: dict[str, Any] = dict(
        zip(("images", "kernel", "bias"), inputs_of((1, 8, 8, 1), 2), strict=True)
    )
    for value, type_name in ((None, "NoneType"), ([1.0], "list"), (2.0, "float")):
        with pytest.raises(TypeError, match=f"{name} must be an array, not a {type_name}"):
            conv_relu_pool(**{**arrays, name: value})


def test_impossible_padding() -> None:
    images, kernel, bias = inputs_of((1, 8, 8, 1), 2)
    with pytest.raises(ValueError, match="padding must be at least 0"):
        conv_relu_pool(images, kernel, bias, -1)
    padding: Any
    for padding in ((2, 2), None, 1.0):
        with pytest.raises(TypeError, match="padding must be an integer"):
            conv_relu_pool(images, kernel, bias, padding)


@pytest.mark.parametrize(
    ("channels", "dtype"),
    [
        (1, "float32"),
        (3, "bfloat16"),
        pytest.param(1, "bfloat16", marks=pytest.mark.slow),
        pytest.param(3, "float32", marks=pytest.mark.slow),
    ],
)
def test_where_jax_is_strict(channels: int, dtype: str) -> None:
    """The parameters are the same on all devices in shard_map, and the images are not."""
    images_key, kernel_key = jax.random.split(jax.random.key(0))
    images = jax.random.uniform(images_key, (4, 8, 8, channels), dtype)
    params = jax.random.normal(kernel_key, (5, 5, channels, 2), dtype), jnp.zeros(2, dtype)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))

    def gradient(params: Any, images: jax.Array) -> Any:
        return jax.grad(lambda params: conv_relu_pool(images, *params).sum())(params)

    sharded = jax.shard_map(gradient, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        found, expected = jax.jit(sharded)(params, images), jax.jit(gradient)(params, images)
    chex.assert_trees_all_close(found, expected, rtol=1e-2, atol=1e-3)


def test_is_exported_for_any_batch() -> None:
    images = jax.random.uniform(jax.random.key(1), (3, 8, 8, 2))
    kernel = jax.random.normal(jax.random.key(2), (5, 5, 2, 3))

    def gradient(images: jax.Array) -> jax.Array:
        return jax.grad(lambda kernel: conv_relu_pool(images, kernel, jnp.zeros(3)).sum())(kernel)

    assert_exports(gradient, images)
