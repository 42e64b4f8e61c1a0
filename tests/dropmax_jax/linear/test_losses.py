"""The losses of linear heads are those of the heads, in any blocks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given as given_values
from hypothesis import settings
from hypothesis import strategies as st

from dropmax_jax import (
    Heads,
    LossTerms,
    dropmax_linear_loss,
    dropmax_linear_loss_and_terms,
    dropmax_loss_and_terms,
    softmax_linear_loss,
)
from tests.dropmax_jax import oracle
from tests.dropmax_jax.linear.heads import KEY, Inputs, inputs, smooth, whole, whole_loss

# Blocks divide neither examples nor classes.
SHAPE = (7, 11, 3)
BLOCK = (3, 4)
EXAMPLES = jnp.arange(7) % 3 > 0
CLASSES = (jnp.arange(11) % 4 > 0)[None]


def in_blocks(given: Inputs, *, key: jax.Array = KEY, **options: Any) -> jax.Array:
    return dropmax_linear_loss(
        key, given.features, given.labels, given.kernels, given.biases, **options
    )


def softmax_in_blocks(given: Inputs, *, temperature: Any = None, **options: Any) -> jax.Array:
    return softmax_linear_loss(
        given.features, given.labels, given.kernels.logits, given.biases.logits, **options
    )


def softmax_whole(
    given: Inputs,
    *,
    where: jax.Array | None = None,
    label_smoothing: float = 0.0,
    temperature: Any = None,
) -> jax.Array:
    logits = whole(given.features, given.kernels, given.biases).logits
    exists = jnp.ones(logits.shape, bool)
    if where is not None and where.ndim == 2:
        exists &= where
    labels = smooth(given.labels, exists, label_smoothing)
    log_probs = jax.nn.log_softmax(logits, where=exists)
    losses = -jnp.sum(jnp.where(exists, labels * log_probs, 0.0), axis=-1)
    return losses if where is None or where.ndim == 2 else jnp.where(where, losses, 0.0)


def losses_and_gradients(loss: Callable[..., jax.Array], given: Inputs, **options: Any) -> Any:
    """The losses, and gradients for random slopes of the examples."""

    def weighted(layers: dict[str, Any], temperature: jax.Array) -> Any:
        losses = loss(given._replace(**layers), temperature=temperature, **options)
        return jnp.sum(np.random.default_rng(1).normal(size=losses.shape) * losses), losses

    layers = {name: getattr(given, name) for name in ("features", "kernels", "biases")}
    temperature = jnp.asarray(0.3, given.features.dtype)
    (_, losses), gradients = jax.jit(jax.value_and_grad(weighted, (0, 1), has_aux=True))(
        layers, temperature
    )
    return losses, gradients


def assert_close(actual: Any, expected: Any, tolerance: float) -> None:
    """Compares arrays by the size of their largest number, and of at least 1.

    Gradients are sums of numbers near 1 that may cancel.
    """

    def check(a: Any, b: Any) -> None:
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape
        scale = np.max(np.abs(b), initial=1.0)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)

    jax.tree.map(check, actual, expected)


OPTIONS: dict[str, dict[str, Any]] = {
    "hard": {},
    "smooth": {"label_smoothing": 0.1},
    "examples": {"where": EXAMPLES},
    "classes": {"where": CLASSES, "label_smoothing": 0.1},
    "classes of each": {"where": "own"},
}


def options_of(name: str, given: Inputs) -> tuple[Inputs, dict[str, Any]]:
    """Inputs whose labels are of classes that exist, and the options."""
    options = dict(OPTIONS[name])
    if name == "classes":
        given = given._replace(labels=given.labels // 4 * 4 + 1)
    if name == "classes of each":
        of_label = jnp.arange(11) == given.labels[:, None]
        options["where"] = (CLASSES | of_label) & EXAMPLES[:, None]
    return given, options


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("balanced", [False, True], ids=["paper", "balanced"])
def test_dropmax_in_float64(name: str, balanced: bool) -> None:
    with oracle.enable_x64():
        given, options = options_of(name, inputs(SHAPE, jnp.float64))
        weights = LossTerms(*jnp.array([0.5, 2.0, 3.0, 0.1]))
        options |= {"balanced": balanced, "weights": weights}
        actual = losses_and_gradients(in_blocks, given, block_size=BLOCK, **options)
        assert_close(actual, losses_and_gradients(whole_loss, given, **options), 1e-10)


@pytest.mark.parametrize("name", OPTIONS)
def test_softmax_in_float64(name: str) -> None:
    with oracle.enable_x64():
        given, options = options_of(name, inputs(SHAPE, jnp.float64))
        actual = losses_and_gradients(softmax_in_blocks, given, block_size=BLOCK, **options)
        assert_close(actual, losses_and_gradients(softmax_whole, given, **options), 1e-10)


def test_in_the_blocks_that_are_chosen_in_float32() -> None:
    given = inputs((600, 700, 8))  # two blocks of each
    expected = losses_and_gradients(whole_loss, given)
    assert_close(losses_and_gradients(in_blocks, given), expected, 1e-5)


def check_shape(shape: tuple[int, int, int], block: tuple[int, int]) -> None:
    given = inputs(shape)
    expected = losses_and_gradients(whole_loss, given, balanced=True)
    actual = losses_and_gradients(in_blocks, given, balanced=True, block_size=block)
    assert_close(actual, expected, 1e-5)


@pytest.mark.parametrize(
    ("shape", "block"), [((0, 3, 2), (2, 2)), ((5, 1, 2), (2, 1)), ((1, 9, 1), (4, 5))]
)
def test_small_shapes(shape: tuple[int, int, int], block: tuple[int, int]) -> None:
    check_shape(shape, block)


@pytest.mark.slow
@settings(max_examples=25)
@given_values(
    st.tuples(st.integers(0, 9), st.integers(1, 12), st.integers(1, 4)),
    st.tuples(st.integers(1, 10), st.integers(1, 13)),
)
def test_any_shapes(shape: tuple[int, int, int], block: tuple[int, int]) -> None:
    check_shape(shape, block)


def test_terms_and_leading_axes() -> None:
    given = inputs((2, 3, 11, 4))
    _, terms = dropmax_linear_loss_and_terms(KEY, *given[:1], given.labels, *given[1:3])
    heads = whole(given.features, given.kernels, given.biases)
    loss, expected = dropmax_loss_and_terms(KEY, heads, given.labels)
    assert loss.shape == (2, 3)
    assert_close(terms, expected, 1e-5)


def test_a_kernel_of_low_rank_is_the_product_of_its_factors() -> None:
    given = inputs((6, 10, 4))
    factors = jax.random.normal(KEY, (4, 2)), jax.random.normal(jax.random.key(6), (2, 10))

    def of(kernel: Any, features: jax.Array) -> jax.Array:
        kernels = given.kernels._replace(prior_logits=kernel)
        return dropmax_linear_loss(KEY, features, given.labels, kernels, block_size=(4, 3)).mean()

    actual = jax.value_and_grad(of, (0, 1))(factors, given.features)
    expected = jax.value_and_grad(
        lambda factors, features: of(factors[0] @ factors[1], features), (0, 1)
    )
    assert_close(actual, expected(factors, given.features), 1e-5)


def test_bfloat16_is_added_up_in_float32() -> None:
    given = inputs((40, 300, 64), jnp.bfloat16)
    exact: Inputs = jax.tree.map(lambda array: array.astype(jnp.float32), given)
    exact = exact._replace(labels=given.labels)
    losses, (layers, _) = losses_and_gradients(
        in_blocks, given._replace(biases=exact.biases), block_size=(16, 32)
    )
    expected, (expected_layers, _) = losses_and_gradients(in_blocks, exact, block_size=(16, 32))
    assert losses.dtype == jnp.float32
    assert_close(losses, expected, 1e-5)
    assert layers["features"].dtype == layers["kernels"].logits.dtype == jnp.bfloat16
    floats = jax.tree.map(lambda array: array.astype(jnp.float32), layers)
    assert_close(floats, expected_layers, 1e-2)


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_other_generators_have_the_same_masks_in_any_blocks(impl: str) -> None:
    given, key = inputs(SHAPE), jax.random.key(3, impl=impl)
    one, other = (in_blocks(given, key=key, block_size=size) for size in (BLOCK, (7, 11)))
    assert_close(one, other, 1e-6)
    another = in_blocks(given, key=jax.random.key(4, impl=impl), block_size=BLOCK)
    assert not np.allclose(one, another, rtol=1e-3)


def test_a_hundred_thousand_classes_have_the_noise_of_the_whole() -> None:
    features, labels = jnp.ones((2, 1)), jnp.array([5, 2**17 - 1])
    kernels = Heads(*jax.random.normal(KEY, (3, 1, 2**17)))
    _, actual = dropmax_linear_loss_and_terms(KEY, features, labels, kernels)
    heads = Heads(*(features @ kernel for kernel in kernels))
    _, expected = dropmax_loss_and_terms(KEY, heads, labels)
    _, other = dropmax_loss_and_terms(jax.random.key(6), heads, labels)
    # Of the terms, only this one depends on the noise.
    np.testing.assert_allclose(actual.cross_entropy, expected.cross_entropy, rtol=2e-5)
    assert not np.allclose(other.cross_entropy, expected.cross_entropy, rtol=2e-5)


def test_softmax_is_optax_s() -> None:
    given = inputs(SHAPE)
    labels = optax.smooth_labels(jax.nn.one_hot(given.labels, 11), 0.1)
    logits = given.features @ given.kernels.logits
    actual = softmax_linear_loss(
        given.features, given.labels, given.kernels.logits, label_smoothing=0.1
    )
    np.testing.assert_allclose(actual, optax.softmax_cross_entropy(logits, labels), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e4])
def test_finite_at_extremes(scale: float) -> None:
    given = inputs(SHAPE)
    given = given._replace(features=given.features * scale)
    for options in ({}, {"label_smoothing": 0.1}):
        found = losses_and_gradients(in_blocks, given, block_size=BLOCK, **options)
        chex_finite = jax.tree.map(lambda array: bool(jnp.all(jnp.isfinite(array))), found)
        assert all(jax.tree.leaves(chex_finite))


def test_what_does_not_count_changes_nothing() -> None:
    given = inputs(SHAPE)
    broken = given._replace(features=given.features.at[0].set(jnp.nan))
    options = {"where": EXAMPLES, "block_size": BLOCK}
    actual, expected = (
        losses_and_gradients(in_blocks, each, **options) for each in (broken, given)
    )
    assert_close(actual, expected, 1e-6)


@pytest.mark.parametrize("loss", [in_blocks, softmax_in_blocks], ids=["dropmax", "softmax"])
def test_large_logits_where_rows_fill_up_the_last_block(loss: Callable[..., jax.Array]) -> None:
    given = inputs(SHAPE)
    given = given._replace(biases=Heads(*(bias + 100 for bias in given.biases)))
    found, expected = (
        losses_and_gradients(loss, given, block_size=size) for size in (BLOCK, SHAPE[:2])
    )
    assert_close(found, expected, 1e-5)


def test_kernels_of_classes_that_nobody_has_do_not_matter() -> None:
    given, options = options_of("classes", inputs(SHAPE))
    absent = ~CLASSES[0]
    broken = jax.tree.map(lambda array: jnp.where(absent, jnp.nan, array), given[1:3])
    given_broken = given._replace(kernels=broken[0], biases=broken[1])
    options |= {"block_size": BLOCK}
    actual, expected = (
        losses_and_gradients(in_blocks, each, **options) for each in (given_broken, given)
    )
    assert_close(actual, expected, 1e-6)


def test_a_label_that_does_not_exist_costs_as_much_as_with_whole_heads() -> None:
    given = inputs(SHAPE)._replace(labels=jnp.full(7, 8))
    actual = in_blocks(given, where=CLASSES, block_size=BLOCK)
    np.testing.assert_allclose(actual, whole_loss(given, where=CLASSES), rtol=1e-5)
    assert np.all(actual > 1e29)
