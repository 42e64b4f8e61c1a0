"""`dropmax_loss` is the sum of the terms that users can compute, at less cost."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import (
    Heads,
    LossTerms,
    dropmax_loss,
    dropmax_loss_and_terms,
    dropmax_loss_terms,
    elbo,
    posterior_logits,
    sample_log_mask,
)
from dropmax_jax._fused import SMALL
from tests.dropmax_jax import oracle

KEY = jax.random.key(0)
# So large that the CPU has a program of its own.
LARGE = (70, 1000)
LABELS = np.arange(70) * 14


def fused(key: jax.Array, heads: Heads, labels: Any, temperature: Any = 0.3) -> jax.Array:
    return dropmax_loss(key, heads, labels, temperature=temperature, epsilon=1e-3)


def plain_terms(key: jax.Array, heads: Heads, labels: Any, temperature: Any = 0.3) -> LossTerms:
    log_mask = sample_log_mask(key, posterior_logits(heads), temperature)
    return dropmax_loss_terms(heads, labels, log_mask, 1e-3)


def plain(key: jax.Array, heads: Heads, labels: Any, temperature: Any = 0.3) -> jax.Array:
    return plain_terms(key, heads, labels, temperature).total


def fused_terms(key: jax.Array, heads: Heads, labels: Any, temperature: Any = 0.3) -> LossTerms:
    return dropmax_loss_and_terms(key, heads, labels, temperature=temperature, epsilon=1e-3)[1]


def assert_trees_close(actual: Any, expected: Any, tolerance: float) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        actual,
        expected,
    )


def test_large_is_not_small() -> None:
    assert LARGE[0] * LARGE[1] > SMALL


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
@pytest.mark.parametrize("partitionable", [True, False])
def test_large_losses_are_the_sum_of_terms(impl: str, partitionable: bool) -> None:
    heads = oracle.random_heads(0, LARGE)
    key = jax.random.key(1, impl=impl)
    with jax.threefry_partitionable(partitionable):
        np.testing.assert_allclose(fused(key, heads, LABELS), plain(key, heads, LABELS), rtol=1e-5)


def test_gradients_of_large_losses_are_those_of_the_terms() -> None:
    heads = oracle.random_heads(0, LARGE)

    def gradients(loss: Callable[..., jax.Array]) -> Any:
        def weighted(heads: Heads, temperature: jax.Array) -> jax.Array:
            weights = jnp.arange(70.0) / 70.0
            return jnp.sum(loss(KEY, heads, LABELS, temperature) * weights)

        return jax.jit(jax.grad(weighted, (0, 1)))(heads, jnp.float32(0.3))

    assert_trees_close(gradients(fused), gradients(plain), 2e-5)


@pytest.mark.parametrize("shape", [(7, 5), LARGE])
def test_terms_and_their_gradients(shape: tuple[int, int]) -> None:
    heads, labels = oracle.random_heads(0, shape), LABELS[: shape[0]] % shape[1]
    assert_trees_close(fused_terms(KEY, heads, labels), plain_terms(KEY, heads, labels), 1e-5)
    for name in LossTerms._fields:

        def total(heads: Heads, temperature: jax.Array, terms: Any, name: str = name) -> jax.Array:
            return jnp.sum(getattr(terms(KEY, heads, labels, temperature), name))

        actual, expected = (
            jax.jit(jax.grad(total, (0, 1)), static_argnums=2)(heads, jnp.float32(0.3), terms)
            for terms in (fused_terms, plain_terms)
        )
        assert_trees_close(actual, expected, 2e-5)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other compilers fuse differently")
def test_terms_that_nobody_differentiates_cost_no_pass() -> None:
    heads = oracle.random_heads(0, LARGE)

    def with_terms(heads: Heads) -> Any:
        loss, terms = dropmax_loss_and_terms(KEY, heads, LABELS)
        return loss.mean(), jax.tree.map(jnp.mean, terms)

    def alone(heads: Heads) -> jax.Array:
        return dropmax_loss(KEY, heads, LABELS).mean()

    programs = [
        jax.jit(gradient).lower(heads).compile().as_text()
        for gradient in (jax.grad(with_terms, has_aux=True), jax.grad(alone))
    ]
    for operation in (" while(", " exponential("):
        with_all, without = (str(program).count(operation) for program in programs)
        # The loss alone needs one sum over classes for three terms.
        assert with_all <= without + 3


@pytest.mark.parametrize("epsilon", [0.0, 1e-30, 5e-25, 2e-24, 1e-20])
@pytest.mark.parametrize("shape", [(7, 5), LARGE], ids=str)
def test_any_epsilon_with_masks_that_drop_nearly_all(
    shape: tuple[int, int], epsilon: float
) -> None:
    heads, labels = oracle.random_heads(0, shape, scale=40.0), LABELS[: shape[0]] % shape[1]

    def plain(heads: Heads) -> jax.Array:
        log_mask = sample_log_mask(KEY, posterior_logits(heads))
        return dropmax_loss_terms(heads, labels, log_mask, epsilon).total

    actual, expected = (
        jax.jit(jax.value_and_grad(lambda heads, f=f: f(heads).sum()))(heads)
        for f in (lambda heads: dropmax_loss(KEY, heads, labels, epsilon=epsilon), plain)
    )
    assert_trees_close(actual, expected, 1e-4)


def test_the_elbo_is_that_of_the_terms() -> None:
    heads = oracle.random_heads(0, LARGE)
    terms = plain_terms(KEY, heads, LABELS)
    found = elbo(KEY, heads, LABELS, temperature=0.3, epsilon=1e-3)
    np.testing.assert_allclose(found, -terms.cross_entropy - terms.kl_divergence, rtol=1e-5)


def test_large_losses_in_float64() -> None:
    with oracle.enable_x64():
        heads = Heads(*(jnp.asarray(h, jnp.float64) for h in oracle.random_heads(0, LARGE)))
        actual, expected = (
            jax.jit(jax.value_and_grad(lambda heads, f=f: f(KEY, heads, LABELS).mean()))(heads)
            for f in (fused, plain)
        )
        assert_trees_close(actual, expected, 1e-12)


def test_large_heads_of_many_axes() -> None:
    heads = oracle.random_heads(0, LARGE)
    folded = jax.tree.map(lambda head: head.reshape(7, 10, -1), heads)
    losses = fused(KEY, folded, LABELS.reshape(7, 10))
    np.testing.assert_allclose(losses.reshape(-1), fused(KEY, heads, LABELS), rtol=1e-6)


def test_vmap_over_large_losses() -> None:
    heads = oracle.random_heads(0, (2, *LARGE))
    keys, labels = jax.random.split(KEY, 2), np.stack([LABELS, LABELS[::-1]])
    losses = jax.vmap(fused)(keys, heads, labels)
    for i in range(2):
        one = jax.tree.map(lambda head, i=i: head[i], heads)
        np.testing.assert_allclose(losses[i], fused(keys[i], one, labels[i]), rtol=1e-6)


def test_rows_on_the_devices_of_an_explicit_mesh() -> None:
    heads = oracle.random_heads(0, LARGE)
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Explicit,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    spread = jax.device_put((heads, jnp.asarray(LABELS)), rows)
    np.testing.assert_allclose(fused(KEY, *spread), fused(KEY, heads, LABELS), rtol=5e-6)


@pytest.mark.parametrize("scale", [0.0, 2.0])
def test_second_derivatives_are_those_of_the_terms(scale: float) -> None:
    with oracle.enable_x64():
        heads = Heads(
            *(jnp.asarray(h, jnp.float64) for h in oracle.random_heads(3, (2, 3), scale=scale))
        )
        direction = Heads(*(jnp.asarray(h, jnp.float64) for h in oracle.random_heads(4, (2, 3))))
        labels = jnp.array([0, 2])

        # This is the directional derivative of loss and gradient, then the gradient of the former.
        def along(loss: Callable[..., jax.Array]) -> Any:
            def total(heads: Heads, temperature: jax.Array) -> jax.Array:
                return loss(KEY, heads, labels, temperature).sum()

            @jax.jit
            def derivative(heads: Heads) -> Any:
                at, along = (heads, jnp.float64(0.3)), (direction, jnp.float64(1.0))
                return jax.jvp(jax.value_and_grad(total, (0, 1)), at, along)[1]

            again = jax.jit(jax.grad(lambda heads: derivative(heads)[0]))
            return derivative(heads), again(heads)

        assert_trees_close(along(fused), along(plain), 1e-9)


@pytest.mark.parametrize("shape", [(7, 5), LARGE])
def test_backward_pass_keeps_one_array_a_head(shape: tuple[int, int]) -> None:
    heads, labels = oracle.random_heads(0, shape), LABELS[: shape[0]] % shape[1]
    for loss in (fused, jax.jit(fused)):
        _, backward = jax.vjp(lambda heads, loss=loss: loss(KEY, heads, labels), heads)
        kept = [leaf for leaf in jax.tree.leaves(backward) if np.size(leaf) >= np.prod(shape)]
        assert len(kept) == 3


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the program for CPU")
def test_large_losses_need_little_memory() -> None:
    heads, labels = oracle.random_heads(0, (1024, 1000)), np.zeros(1024, np.int32)
    step = jax.jit(jax.value_and_grad(lambda heads: fused(KEY, heads, labels).mean()))
    memory = step.lower(heads).compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 2.1 * np.asarray(heads.logits).nbytes


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_has_no_loop(platform: str) -> None:
    heads = oracle.random_heads(0, LARGE)
    step = jax.jit(jax.value_and_grad(lambda heads: fused(KEY, heads, LABELS).mean()))
    traced = step.trace(heads)
    assert "while" not in traced.lower(lowering_platforms=(platform,)).as_text()
