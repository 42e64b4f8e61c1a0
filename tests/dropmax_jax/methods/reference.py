"""What the tests of the methods share: inputs, and derivatives of NumPy formulas."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dropmax_jax import Heads, Method
from tests.dropmax_jax import oracle
from tests.dropmax_jax.oracle import Array

KEY = jax.random.key(0)
LABELS = np.array([0, 1, 2, 3, 4, 0])
TARGET = oracle.one_hot(LABELS, 5)


def float64_heads(scale: float = 2.0) -> tuple[Array, Array, Array]:
    """Class, prior and label logits `[6, 5]`."""
    o, prior, label = np.random.default_rng(1).normal(scale=scale, size=(3, 6, 5))
    return o, prior, label


def heads_for(method: Method, heads: Heads) -> Heads:
    """Only the heads that the method asks for."""
    return Heads(**{name: getattr(heads, name) for name in method.heads})


def gradient(function: Callable[[Array], Array], x: Array) -> Array:
    """Derivatives of a row-wise function `[..., K]` -> `[...]`, by complex steps of 1e-30."""
    result = np.zeros(x.shape)
    for k in range(x.shape[-1]):
        moved = x.astype(complex)
        moved[..., k] += 1e-30j
        result[..., k] = np.imag(function(moved)) / 1e-30
    return result


def cross_entropy(logits: Array) -> Array:
    """The cross-entropy of `LABELS`, for logits `[6, 5]`."""
    return np.asarray(-np.where(TARGET, oracle.log_softmax(logits), 0.0).sum(-1))


def assert_value_and_gradients(
    loss: Callable[..., jax.Array],
    formula: Callable[..., Array],
    inputs: tuple[Array, ...],
    rtol: float = 1e-9,
) -> None:
    """Compare a loss and its derivative in each input with a formula, in float64."""
    arrays = tuple(map(jnp.asarray, inputs))
    np.testing.assert_allclose(loss(*arrays), formula(*inputs), rtol=rtol, atol=1e-12)
    gradients = jax.grad(lambda arrays: loss(*arrays).sum())(arrays)
    for i, found in enumerate(gradients):
        moved = partial(_with_input, formula, inputs, i)
        expected = gradient(moved, inputs[i])
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-12)


def _with_input(
    formula: Callable[..., Array], inputs: tuple[Array, ...], i: int, value: Array
) -> Array:
    return formula(*inputs[:i], value, *inputs[i + 1 :])
