import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import METHODS, Heads, metrics
from dropmax_jax.methods.temperature_scaling import fit_temperature, scaled_log_probs
from tests.dropmax_jax import oracle
from tests.dropmax_jax.methods.reference import KEY, LABELS

LOGITS = 2 * jax.random.normal(jax.random.key(1), (20_000, 5))
CALIBRATED = jax.random.categorical(jax.random.key(2), LOGITS)


def nll(logits: jax.Array, labels: jax.Array, temperature: float) -> float:
    log_probs = oracle.log_softmax(np.asarray(logits, np.float64) / temperature)
    return float(-np.take_along_axis(log_probs, np.asarray(labels)[:, None], -1).mean())


def test_one_if_calibrated_already() -> None:
    assert abs(fit_temperature(Heads(LOGITS), CALIBRATED) - 1) < 0.03


@pytest.mark.parametrize("scale", [0.02, 0.3, 3.0, 50.0])
def test_scales_with_the_logits(scale: float) -> None:
    unscaled = fit_temperature(Heads(LOGITS), CALIBRATED)
    scaled = fit_temperature(Heads(scale * LOGITS), CALIBRATED)
    np.testing.assert_allclose(scaled, scale * unscaled, rtol=1e-3)
    np.testing.assert_allclose(
        scaled_log_probs(Heads(scale * LOGITS), scaled),
        scaled_log_probs(Heads(LOGITS), unscaled),
        atol=0.05,
    )


def test_the_minimum_is_a_minimum() -> None:
    logits = 3 * LOGITS[:300]
    temperature = float(fit_temperature(Heads(logits), CALIBRATED[:300]))
    best = nll(logits, CALIBRATED[:300], temperature)
    for factor in (0.5, 0.98, 1.02, 2.0):
        assert nll(logits, CALIBRATED[:300], factor * temperature) > best
    with oracle.enable_x64(True):
        precise = fit_temperature(Heads(jnp.asarray(logits, np.float64)), CALIBRATED[:300])
    np.testing.assert_allclose(temperature, precise, rtol=1e-4)


def test_it_calibrates() -> None:
    heads = Heads(4 * LOGITS)
    temperature = fit_temperature(heads, CALIBRATED)
    before = metrics.expected_calibration_error(scaled_log_probs(heads), CALIBRATED)
    after = metrics.expected_calibration_error(scaled_log_probs(heads, temperature), CALIBRATED)
    assert before > 0.1
    assert after < 0.02


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("case", ["all right", "all wrong", "equal logits", "mixed"])
def test_always_finite_and_positive(scale: float, case: str) -> None:
    target = jnp.asarray(oracle.one_hot(LABELS, 5))
    right = jnp.where(target, 1.0, -1.0)
    mixed = jnp.where(jnp.arange(6)[:, None] < 4, right, -right)
    logits = {"all right": right, "all wrong": -right, "equal logits": 0 * right, "mixed": mixed}
    heads = Heads(scale * logits[case])
    temperature = jax.jit(fit_temperature)(heads, LABELS)
    assert 1e-3 * 0.999 <= temperature <= 1e3 * 1.001
    assert np.all(np.isfinite(scaled_log_probs(heads, temperature)))


def test_perfect_predictions_get_the_least_confident_of_equally_good_temperatures() -> None:
    logits = 100.0 * jnp.asarray(oracle.one_hot(LABELS, 5), jnp.float32)
    temperature = fit_temperature(Heads(logits), LABELS)
    assert temperature > 0.5
    assert nll(logits, jnp.asarray(LABELS), float(temperature)) < 1e-20


def test_seeds_under_vmap_and_jit() -> None:
    logits = jnp.stack([LOGITS[:500], 3 * LOGITS[:500]])
    labels = CALIBRATED[:500]
    fit = jax.jit(jax.vmap(lambda logits: fit_temperature(Heads(logits), labels)))
    one, three = fit(logits)
    np.testing.assert_allclose(three, 3 * one, rtol=1e-3)


def test_any_leading_shape() -> None:
    flat = fit_temperature(Heads(LOGITS[:600]), CALIBRATED[:600])
    heads, labels = Heads(LOGITS[:600].reshape(20, 30, 5)), CALIBRATED[:600].reshape(20, 30)
    np.testing.assert_allclose(fit_temperature(heads, labels), flat, rtol=1e-4)


def test_training_and_the_unfitted_prediction_are_those_of_the_softmax() -> None:
    method, softmax = METHODS["temperature_scaling"], METHODS["softmax"]
    heads, labels = Heads(LOGITS[:6]), CALIBRATED[:6]
    np.testing.assert_array_equal(method.loss(KEY, heads, labels), softmax.loss(KEY, heads, labels))
    np.testing.assert_array_equal(method.log_probs(heads), softmax.log_probs(heads))
    np.testing.assert_array_equal(method.log_probs(heads, 1.0), softmax.log_probs(heads))


def test_the_most_likely_class_stays() -> None:
    heads = Heads(LOGITS[:100])
    for temperature in (0.1, 10.0):
        np.testing.assert_array_equal(
            scaled_log_probs(heads, temperature).argmax(-1), heads.logits.argmax(-1)
        )


def test_no_examples_or_no_temperature() -> None:
    with pytest.raises(ValueError, match=r"heads.logits must have an example, but has shape"):
        fit_temperature(Heads(jnp.zeros((0, 5))), jnp.zeros(0, jnp.int32))
    with pytest.raises(ValueError, match="fitted must be positive"):
        scaled_log_probs(Heads(LOGITS[:2]), 0.0)


def test_a_class_that_is_ruled_out_counts_nothing() -> None:
    ruled_out = jnp.full((len(LOGITS), 1), -jnp.inf)
    heads = Heads(3 * LOGITS), Heads(jnp.concatenate([3 * LOGITS, ruled_out], axis=-1))
    expected, found = (fit_temperature(each, CALIBRATED) for each in heads)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
