"""The losses of linear heads under JAX's transformations, and the memory that they take."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import Heads, dropmax_linear_loss, dropmax_linear_top_k, dropmax_loss
from tests.dropmax_jax import oracle
from tests.dropmax_jax.linear.heads import KEY, inputs
from tests.exporting import assert_exports

GIVEN = inputs((6, 10, 4))


def mean_loss(kernels: Heads, key: jax.Array = KEY) -> jax.Array:
    return dropmax_linear_loss(key, GIVEN.features, GIVEN.labels, kernels, block_size=(4, 3)).mean()


def assert_close(actual: Any, expected: Any) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), actual, expected
    )


def test_vmap_over_kernels_and_keys() -> None:
    keys = jax.random.split(KEY, 2)
    kernels = jax.tree.map(lambda kernel: jnp.stack([kernel, 2 * kernel]), GIVEN.kernels)
    actual = jax.jit(jax.vmap(jax.value_and_grad(mean_loss)))(kernels, keys)
    for i in range(2):
        one = jax.tree.map(lambda kernel, i=i: kernel[i], kernels)
        expected = jax.value_and_grad(mean_loss)(one, keys[i])
        assert_close(jax.tree.map(lambda array, i=i: array[i], actual), expected)


def test_checkpoint_within_scan() -> None:
    def total(kernels: Heads, step: Callable[..., jax.Array]) -> jax.Array:
        keys = jax.random.split(KEY, 2)
        return jnp.sum(jax.lax.map(lambda key: step(kernels, key), keys))

    actual, expected = (
        jax.grad(total)(GIVEN.kernels, step) for step in (jax.checkpoint(mean_loss), mean_loss)
    )
    assert_close(actual, expected)


def test_forward_mode_says_that_it_cannot() -> None:
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(mean_loss, (GIVEN.kernels,), (GIVEN.kernels,))


def test_second_derivatives() -> None:
    with oracle.enable_x64():
        given = inputs((2, 3, 2), jnp.float64)

        def slope(features: jax.Array, loss: Callable[[jax.Array], jax.Array]) -> Any:
            return jax.grad(lambda features: loss(features).sum())(features)

        def in_blocks(features: jax.Array) -> jax.Array:
            return dropmax_linear_loss(
                KEY, features, given.labels, given.kernels, temperature=0.5, block_size=(1, 2)
            )

        def whole(features: jax.Array) -> jax.Array:
            heads = Heads(*(features @ kernel for kernel in given.kernels))
            return dropmax_loss(KEY, heads, given.labels, temperature=0.5)

        actual, expected = (
            jax.jacrev(lambda features, loss=loss: slope(features, loss))(given.features)
            for loss in (in_blocks, whole)
        )
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


def abstract(num_examples: int, num_classes: int, width: int, dtype: Any) -> tuple[Any, Any, Heads]:
    def array(*shape: int, dtype: Any = dtype) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    kernels = Heads(*(array(width, num_classes) for _ in range(3)))
    return array(num_examples, width), array(num_examples, dtype=jnp.int32), kernels


def bytes_between(loss: Callable[..., jax.Array], *shapes: Any) -> int:
    """What the compiled program takes beside its inputs, values and gradients."""

    def mean(features: jax.Array, labels: jax.Array, kernels: Heads) -> jax.Array:
        return loss(KEY, features, labels, kernels).mean()

    compiled = jax.jit(jax.value_and_grad(mean, (0, 2))).lower(*shapes).compile()
    memory: Any = compiled.memory_analysis()
    return int(memory.temp_size_in_bytes)


def whole_loss(key: jax.Array, features: jax.Array, labels: jax.Array, kernels: Heads) -> Any:
    return dropmax_loss(key, Heads(*(features @ kernel for kernel in kernels)), labels)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="blocks are larger elsewhere")
def test_memory_is_a_twentieth_of_that_of_whole_heads() -> None:
    shapes = abstract(2048, 32768, 256, jnp.float32)
    assert bytes_between(dropmax_linear_loss, *shapes) < bytes_between(whole_loss, *shapes) / 20


@pytest.mark.skipif(
    jax.default_backend() == "cpu" and jax.__version_info__ < (0, 12),
    reason="on CPU, older compilers keep kernels of bfloat16 in float32 too",
)
def test_memory_for_a_hundred_thousand_classes() -> None:
    shapes = abstract(8192, 131072, 1024, jnp.bfloat16)
    assert bytes_between(dropmax_linear_loss, *shapes) < 2**30


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_have_larger_blocks(platform: str) -> None:
    shapes = abstract(2048, 32768, 256, jnp.bfloat16)

    def largest_width(platform: str) -> int:
        program = jax.jit(lambda *args: dropmax_linear_loss(KEY, *args)).trace(*shapes)
        text = program.lower(lowering_platforms=(platform,)).as_text()
        return max(int(width) for width in re.findall(r"tensor<\d+x(\d+)xf32>", text))

    assert largest_width("cpu") < largest_width(platform) < 32768


def test_a_program_for_any_number_of_examples() -> None:
    def predict(features: jax.Array) -> Any:
        return dropmax_linear_top_k(features, 3, GIVEN.kernels, GIVEN.biases)

    assert_exports(predict, GIVEN.features)
