import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import METHODS, Heads
from dropmax_jax.methods.sparsemax import multiclass_sparsemax_loss, sparsemax_probs
from tests.dropmax_jax import oracle
from tests.dropmax_jax.methods.reference import KEY, LABELS, TARGET, float64_heads
from tests.dropmax_jax.oracle import Array


def sorted_sparsemax(z: Array) -> tuple[Array, float]:
    """Sparsemax of one row and its threshold, by sorting (Martins and Astudillo, algorithm 1)."""
    descending = np.sort(z)[::-1]
    sums, counts = np.cumsum(descending), np.arange(1, z.size + 1)
    size = counts[1 + counts * descending > sums].max()
    threshold = (sums[size - 1] - 1) / size
    return np.maximum(z - threshold, 0.0), float(threshold)


def reference_loss(z: Array, label: int) -> float:
    p, threshold = sorted_sparsemax(z)
    return float(-z[label] + 0.5 * ((z**2 - threshold**2)[p > 0]).sum() + 0.5)


@pytest.mark.parametrize("scale", [0.01, 0.5, 2.0, 100.0])
def test_value_and_gradient(scale: float) -> None:
    o, _, _ = float64_heads(scale)
    with oracle.enable_x64(True):
        probs = np.stack([sorted_sparsemax(row)[0] for row in o])
        losses = [reference_loss(row, label) for row, label in zip(o, LABELS, strict=True)]
        np.testing.assert_allclose(sparsemax_probs(o), probs, atol=1e-12)
        np.testing.assert_allclose(multiclass_sparsemax_loss(o, LABELS), losses, atol=1e-10)
        gradient = jax.grad(lambda o: multiclass_sparsemax_loss(o, LABELS).sum())(jnp.asarray(o))
        np.testing.assert_allclose(gradient, probs - TARGET, atol=1e-10)


def test_the_hessian_is_the_jacobian_of_sparsemax() -> None:
    with oracle.enable_x64(True):
        z = jnp.array([0.4, 0.3, 0.1, -3.0])
        np.testing.assert_allclose(
            jax.jacfwd(jax.grad(multiclass_sparsemax_loss))(z, 1),
            jax.jacfwd(sparsemax_probs)(z),
            atol=1e-12,
        )


def test_gradient_for_large_logits_in_float32() -> None:
    z = jnp.array([[1e4, 1e4 - 0.25, -1e4]])
    gradient = jax.grad(lambda z: multiclass_sparsemax_loss(z, np.array([1])).sum())(z)
    np.testing.assert_allclose(gradient, [[0.625, -0.625, 0.0]], atol=1e-6)


def test_no_loss_from_a_margin_of_one_on() -> None:
    loss = METHODS["sparsemax"].loss
    label = np.array(0)
    assert loss(KEY, Heads(jnp.array([1.0, 0.0, -5.0])), label) == 0.0
    assert loss(KEY, Heads(jnp.array([0.9, 0.0, -5.0])), label) > 0.0


def test_two_classes_are_a_clipped_line() -> None:
    z = jnp.linspace(-2.0, 2.0, 21)
    probs = sparsemax_probs(jnp.stack([z, jnp.zeros_like(z)], axis=-1))[:, 0]
    np.testing.assert_allclose(probs, np.clip((z + 1) / 2, 0, 1), atol=1e-6)


def test_a_class_without_probability_has_a_finite_log() -> None:
    log_probs = METHODS["sparsemax"].log_probs(Heads(jnp.array([5.0, 0.0, 0.0])))
    np.testing.assert_allclose(log_probs, [0.0, np.log(1e-20), np.log(1e-20)], rtol=1e-6)
