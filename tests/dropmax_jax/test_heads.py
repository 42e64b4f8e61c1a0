"""The three heads, and what is done with their parameters."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dropmax_jax import Heads, weight_decay_mask, zero_mask_heads

OUTPUTS = jax.random.normal(jax.random.key(0), (2, 6, 9))


class TestSplit:
    @pytest.mark.parametrize("axis", [-1, 1, -2, 2])
    def test_heads_in_order_make_up_the_outputs(self, axis: int) -> None:
        heads = Heads.split(OUTPUTS, axis)
        np.testing.assert_array_equal(jnp.concatenate(heads, axis), OUTPUTS)
        assert heads.logits.shape == heads.prior_logits.shape == heads.label_logits.shape

    def test_classes_are_last_by_default(self) -> None:
        np.testing.assert_array_equal(Heads.split(OUTPUTS).prior_logits, OUTPUTS[..., 3:6])

    def test_keeps_the_precision(self) -> None:
        heads = Heads.split(OUTPUTS.astype(jnp.bfloat16))
        assert {head.dtype for head in heads} == {jnp.dtype(jnp.bfloat16)}

    def test_works_under_jit_and_grad(self) -> None:
        def mean_of_prior(outputs: jax.Array) -> jax.Array:
            return Heads.split(outputs).prior_logits.mean()

        gradient = jax.jit(jax.grad(mean_of_prior))(OUTPUTS)
        wanted = np.zeros_like(OUTPUTS)
        wanted[..., 3:6] = 1 / 36
        np.testing.assert_allclose(gradient, wanted, rtol=1e-6)

    @pytest.mark.parametrize(
        ("outputs", "axis", "error", "message"),
        [
            (jnp.zeros((4, 10)), -1, ValueError, "multiple of 3 along axis -1, but has shape (4"),
            (jnp.zeros((4, 0)), -1, ValueError, "positive multiple of 3 along axis -1"),
            (jnp.zeros((3, 4)), 1, ValueError, "multiple of 3 along axis 1, but has shape (3, 4)"),
            (jnp.zeros(()), -1, ValueError, "must have an axis -1, but has shape ()"),
            (jnp.zeros((3, 3)), 2, ValueError, "must have an axis 2, but has shape (3, 3)"),
            (jnp.zeros((4, 9), jnp.int32), -1, TypeError, "outputs must be a floating-point array"),
            (None, -1, TypeError, "outputs must be a floating-point array, but is None"),
        ],
    )
    def test_refuses_what_is_not_three_heads(
        self, outputs: Any, axis: int, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=re.escape(message)):
            Heads.split(outputs, axis)


# One tree in each of the ways in which frameworks name parameters. Twos are mask heads'.
TREES: dict[str, Any] = {
    "keys": {"params": {"heads": {"prior_logits": {"kernel": 2.0}, "logits": {"kernel": 1.0}}}},
    "attributes": [Heads(1.0, 2.0, {"bias": 2.0}), 1.0],  # type: ignore[arg-type]
    "module names": {"net/~/prior_logits": {"w": 2.0}, "label_logits": {"w": 2.0}, "net": 1.0},
    "joined keys": {"heads.prior_logits.weight": 2.0, "heads.logits.weight": 1.0},
    "tuples": {("heads", "label_logits", "kernel"): 2.0, ("heads", "logits", "kernel"): 1.0},
    "other words": {"my_prior_logits": 1.0, "prior_logits_head": 1.0, "prior": {"logits": 1.0}},
}


@pytest.mark.parametrize("name", TREES)
def test_decays_all_but_the_mask_heads(name: str) -> None:
    mask = weight_decay_mask(TREES[name])
    assert jax.tree.map(lambda leaf: leaf == 1.0, TREES[name]) == mask


@pytest.mark.parametrize("name", [name for name in TREES if name != "other words"])
def test_zeroes_the_mask_heads_alone(name: str) -> None:
    zeroed = zero_mask_heads(TREES[name])
    assert jax.tree.map(lambda leaf: leaf * (leaf == 1.0), TREES[name]) == zeroed


def test_zeros_keep_shape_and_precision() -> None:
    kernel = jnp.ones((3, 4), jnp.bfloat16)
    zeros = zero_mask_heads({"prior_logits": kernel})["prior_logits"]
    assert (zeros.shape, zeros.dtype) == (kernel.shape, kernel.dtype)


def test_refuses_to_zero_nothing() -> None:
    for params in ({"logits": jnp.ones(2)}, {}):
        with pytest.raises(ValueError, match="must have leaves under prior_logits or label_logits"):
            zero_mask_heads(params)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optax.adamw(0.1, weight_decay=0.5, mask=weight_decay_mask),
        lambda: optax.add_decayed_weights(-0.05, mask=weight_decay_mask),
    ],
)
def test_optax_takes_the_mask(make: Callable[[], optax.GradientTransformation]) -> None:
    params = {"hidden": jnp.ones(2), "heads": Heads(*jnp.ones((3, 2)))}
    optimizer = make()
    gradient = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(optimizer.update)(gradient, optimizer.init(params), params)
    decayed = jnp.full(2, -0.05)
    wanted = {"hidden": decayed, "heads": Heads(decayed, jnp.zeros(2), jnp.zeros(2))}
    for pair in zip(jax.tree.leaves(updates), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(pair[0], pair[1], rtol=1e-6)
