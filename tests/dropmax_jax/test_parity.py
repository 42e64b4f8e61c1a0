"""The library reproduces reference vectors that were computed outside it.

Float64 NumPy computed them from the formulas, and the gradients by central differences.
"""

from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import (
    Heads,
    LossTerms,
    concrete_log_mask,
    dropmax_log_probs,
    dropmax_logits,
    dropmax_loss_terms,
    posterior_logits,
)
from tests.dropmax_jax import oracle

DATA = Path(__file__).parents[1] / "data"
NAMES = ("terms_k10", "terms_k100")
TERMS = ("cross_entropy", "kl", "aux", "neg_entropy")

# Central differences in float64 left the stored gradients this accurate. Exact derivatives below
# show that the library's gradients are within 1e-9 of the truth.
STORED_GRADIENT_TOLERANCE = {"terms_k10": 1e-9, "terms_k100": 5e-9}


def load(name: str) -> dict[str, Any]:
    with np.load(DATA / f"{name}.npz") as file:
        vectors = dict(file)
    vectors["noise"] = np.log(vectors["u"]) - np.log(1.0 - vectors["u"])
    return vectors


def make_heads(vectors: dict[str, Any], dtype: Any) -> Heads:
    return Heads(*(jnp.asarray(vectors[name], dtype) for name in ("o", "ph", "rh")))


def loss_terms(heads: Heads, vectors: dict[str, Any]) -> LossTerms:
    noise = jnp.asarray(vectors["noise"], heads.logits.dtype)
    temperature, epsilon = float(vectors["tau"]), float(vectors["eps"])

    @jax.jit
    def compute(heads: Heads) -> LossTerms:
        log_mask = concrete_log_mask(posterior_logits(heads), noise, temperature)
        return dropmax_loss_terms(heads, vectors["y"], log_mask, epsilon)

    return cast(LossTerms, compute(heads))


def gradients(heads: Heads, vectors: dict[str, Any]) -> Heads:
    def mean_loss(heads: Heads) -> jax.Array:
        return loss_terms(heads, vectors).total.mean()

    gradient: Heads = jax.jit(jax.grad(mean_loss))(heads)
    return gradient


def assert_close(actual: Any, expected: Any, tolerance: float) -> None:
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.max(np.abs(actual - expected) / (1.0 + np.abs(expected))) <= tolerance


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 2e-4)])
def test_terms_and_predictions(name: str, dtype: Any, tolerance: float) -> None:
    vectors = load(name)
    with oracle.enable_x64(dtype == np.float64):
        heads = make_heads(vectors, dtype)
        terms = loss_terms(heads, vectors)
        assert all(term.dtype == dtype for term in terms)
        for term, key in zip(terms, TERMS, strict=True):
            assert_close(term, vectors[key], tolerance)
        assert_close(terms.total, vectors["loss"], tolerance)
        predicted = dropmax_log_probs(heads, float(vectors["eps"]))
        assert_close(predicted, vectors["predict_log_probs"], tolerance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 2e-4)])
def test_masks(name: str, dtype: Any, tolerance: float) -> None:
    vectors = load(name)
    with oracle.enable_x64(dtype == np.float64):
        heads = make_heads(vectors, dtype)
        noise = jnp.asarray(vectors["noise"], dtype)
        log_mask = concrete_log_mask(posterior_logits(heads), noise, float(vectors["tau"]))
        target = oracle.one_hot(vectors["y"], log_mask.shape[-1])
        assert_close(np.where(target, 0.0, log_mask), vectors["log_z"], tolerance)
        masked = dropmax_logits(heads.logits, vectors["log_z"], float(vectors["eps"]))
        assert_close(masked, vectors["masked_logits"], tolerance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gradients(name: str, dtype: Any) -> None:
    vectors = load(name)
    tolerance = STORED_GRADIENT_TOLERANCE[name] if dtype == np.float64 else 2e-4
    with oracle.enable_x64(dtype == np.float64):
        actual = gradients(make_heads(vectors, dtype), vectors)
        for gradient, key in zip(actual, ("grad_o", "grad_ph", "grad_rh"), strict=True):
            assert_close(gradient, vectors[key], tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_the_exact_derivatives(name: str) -> None:
    vectors = load(name)
    expected = oracle.mean_loss_gradients(
        vectors["o"],
        vectors["ph"],
        vectors["rh"],
        vectors["y"],
        vectors["noise"],
        float(vectors["tau"]),
        float(vectors["eps"]),
    )
    with oracle.enable_x64():
        actual = gradients(make_heads(vectors, np.float64), vectors)
        for gradient, exact in zip(actual, expected, strict=True):
            assert_close(gradient, exact, 1e-12)


def test_one_example_and_many_axes() -> None:
    vectors = load("terms_k10")
    arrays = ("o", "ph", "rh", "noise", "y", "loss", "predict_log_probs")
    with oracle.enable_x64():
        first = vectors | {key: vectors[key][0] for key in arrays}
        folded = vectors | {
            key: vectors[key].reshape(2, 2, 4, *vectors[key].shape[1:]) for key in arrays
        }
        for case in (first, folded):
            heads = make_heads(case, np.float64)
            assert_close(loss_terms(heads, case).total, case["loss"], 1e-9)
            assert_close(dropmax_log_probs(heads), case["predict_log_probs"], 1e-9)
