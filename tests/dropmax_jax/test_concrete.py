from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import (
    bernoulli_kl,
    bernoulli_negative_entropy,
    concrete_log_mask,
    sample_log_mask,
)
from tests.dropmax_jax import oracle

KEY = jax.random.key(0)
EXTREMES = np.array([-1e4, -90.0, -20.0, -1.0, 0.0, 1.0, 20.0, 90.0, 1e4], np.float32)


def test_mask_is_a_sigmoid_of_logits_and_noise() -> None:
    logits, noise = np.random.default_rng(0).normal(size=(2, 5, 7))
    log_mask = concrete_log_mask(logits, noise, temperature=0.3)
    np.testing.assert_allclose(np.exp(log_mask), oracle.sigmoid((logits + noise) / 0.3), rtol=1e-5)


def test_log_mask_keeps_what_the_mask_rounds_away() -> None:
    log_mask = concrete_log_mask(jnp.array([-20.0, 20.0]), jnp.zeros(2), temperature=0.1)
    assert log_mask[0] == -200.0  # the mask itself is 0 in float32
    np.testing.assert_allclose(
        concrete_log_mask(jnp.array([20.0]), jnp.zeros(1), 1.0), -np.exp(-20.0), rtol=1e-6
    )  # the log of the mask would be 0


@pytest.mark.parametrize("probability", [0.05, 0.5, 0.9])
def test_cold_mask_is_bernoulli(probability: float) -> None:
    logits = jnp.full((100_000,), np.log(probability / (1.0 - probability)), jnp.float32)
    mask = jnp.exp(sample_log_mask(KEY, logits, temperature=1e-6))
    assert jnp.mean((mask > 0.01) & (mask < 0.99)) < 1e-3
    deviation = np.sqrt(probability * (1.0 - probability) / logits.size)
    assert abs(float(mask.mean()) - probability) < 4.0 * deviation


def test_hot_mask_is_one_half() -> None:
    mask = jnp.exp(sample_log_mask(KEY, jnp.linspace(-5.0, 5.0, 100), temperature=1e6))
    np.testing.assert_allclose(mask, 0.5, atol=1e-4)


def test_noise_is_logistic() -> None:
    # At temperature 1 the mask of logit 0 is the uniform number itself.
    with oracle.enable_x64():
        uniform = np.sort(jnp.exp(sample_log_mask(KEY, jnp.zeros(100_000), temperature=1.0)))
    gap = np.max(np.abs(uniform - (np.arange(uniform.size) + 0.5) / uniform.size))
    assert gap < 2.0 / np.sqrt(uniform.size)  # Kolmogorov-Smirnov, p < 1e-3


@pytest.mark.parametrize("lowest", [True, False])
def test_noise_is_finite_at_either_end(lowest: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    end = 0.0 if lowest else 1.0 - np.finfo(np.float32).eps
    monkeypatch.setattr(
        jax.random, "uniform", lambda key, shape, dtype, **_: jnp.full(shape, end, dtype)
    )
    log_mask = sample_log_mask(KEY, jnp.zeros(3), temperature=1.0)
    expected = -np.log1p(np.exp(24 * np.log(2.0) * (1 if lowest else -1)))
    np.testing.assert_allclose(log_mask, expected, rtol=1e-2)


def test_same_key_same_mask() -> None:
    logits = jnp.zeros((4, 10))
    np.testing.assert_array_equal(sample_log_mask(KEY, logits), sample_log_mask(KEY, logits))
    other = sample_log_mask(jax.random.key(1), logits)
    assert not np.any(sample_log_mask(KEY, logits) == other)


def test_old_and_new_style_keys_agree() -> None:
    logits = jnp.zeros((4, 10))
    old = sample_log_mask(jax.random.PRNGKey(7), logits)
    np.testing.assert_array_equal(old, sample_log_mask(jax.random.key(7), logits))


def test_kl_and_entropy_are_the_formulas() -> None:
    a, b = np.random.default_rng(0).normal(scale=4.0, size=(2, 1000))
    np.testing.assert_allclose(bernoulli_kl(a, b), oracle.bernoulli_kl(a, b), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bernoulli_negative_entropy(b), oracle.negative_entropy(b), rtol=1e-5)
    with oracle.enable_x64():
        np.testing.assert_allclose(bernoulli_kl(a, b), oracle.bernoulli_kl(a, b), rtol=1e-9)


def test_kl_is_accurate_where_both_are_nearly_certain() -> None:
    with oracle.enable_x64():
        exact = bernoulli_kl(jnp.array([20.0, -20.0]), jnp.array([21.0, -21.0]))
    np.testing.assert_allclose(
        bernoulli_kl(jnp.float32([20.0, -20.0]), jnp.float32([21.0, -21.0])), exact, rtol=1e-4
    )


def test_kl_is_zero_for_equals_and_positive_otherwise() -> None:
    a, b = np.meshgrid(EXTREMES, EXTREMES)
    divergence = np.asarray(bernoulli_kl(a, b))
    np.testing.assert_array_equal(np.diagonal(divergence), 0.0)
    assert np.all(divergence >= 0.0)
    assert np.all(np.isfinite(divergence))
    np.testing.assert_allclose(divergence, np.asarray(bernoulli_kl(-a, -b)), rtol=1e-6)


def test_kl_broadcasts() -> None:
    assert bernoulli_kl(jnp.zeros((3, 1)), jnp.zeros(4)).shape == (3, 4)
    assert bernoulli_kl(0.0, 1.0).shape == ()


def test_entropy_is_even_and_between_its_bounds() -> None:
    entropy = np.asarray(bernoulli_negative_entropy(EXTREMES))
    np.testing.assert_array_equal(entropy, entropy[::-1])
    assert entropy.min() == entropy[4] == pytest.approx(-np.log(2.0))
    assert entropy.max() == 0.0


@pytest.mark.parametrize("point", [0.0, -1.3, 0.8])
def test_derivatives_of_every_order(point: float) -> None:
    # This includes 0, where |a| has a kink: heads that start from zero are exactly there.
    with oracle.enable_x64():
        other = 0.7
        cases: list[tuple[Any, Any]] = [
            (lambda a: bernoulli_kl(a, other), lambda a: oracle.bernoulli_kl(a, np.array(other))),
            (lambda b: bernoulli_kl(other, b), lambda b: oracle.bernoulli_kl(np.array(other), b)),
            (bernoulli_negative_entropy, oracle.negative_entropy),
            (
                lambda a: concrete_log_mask(a[None], jnp.zeros(1), 0.5)[0],
                lambda a: np.log(oracle.sigmoid(a / 0.5)),
            ),
        ]
        for function, formula in cases:
            derivatives = jax.jit(jax.grad(function)), jax.jit(jax.grad(jax.grad(function)))
            x, small, large = jnp.asarray(point), 1e-30, 1e-4
            slope = [
                float(np.imag(formula(np.array(point + shift + 1j * small))) / small)
                for shift in (0.0, -large, large)
            ]
            np.testing.assert_allclose(derivatives[0](x), slope[0], rtol=1e-12, atol=1e-14)
            curvature = (slope[2] - slope[1]) / (2 * large)
            np.testing.assert_allclose(derivatives[1](x), curvature, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_half_precision_is_computed_in_float32(dtype: Any) -> None:
    logits = jnp.linspace(-4.0, 4.0, 12).astype(dtype)
    for function in (
        lambda a: concrete_log_mask(a, jnp.zeros_like(a)),
        lambda a: sample_log_mask(KEY, a),
        lambda a: bernoulli_kl(a, a[::-1]),
        bernoulli_negative_entropy,
    ):
        function = jax.jit(function)
        result = function(logits)
        assert result.dtype == jnp.float32
        np.testing.assert_array_equal(result, function(logits.astype(jnp.float32)))
        assert jax.grad(lambda a, f=function: f(a).sum())(logits).dtype == dtype


def test_temperature_may_be_traced_and_have_a_gradient() -> None:
    logits, noise = jnp.ones(3), jnp.ones(3)

    def total(temperature: jax.Array) -> jax.Array:
        return concrete_log_mask(logits, noise, temperature).sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(jnp.float32(0.5))
    np.testing.assert_allclose(value, total(jnp.float32(0.5)), rtol=1e-6)
    np.testing.assert_allclose(gradient, -3 * 8 * oracle.sigmoid(np.array(-4.0)), rtol=1e-5)
