import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import METHODS, Heads, dropmax_loss_terms, sample_log_mask
from dropmax_jax.methods.class_dropout import retained_cross_entropy, sample_retained_classes
from tests.dropmax_jax import oracle
from tests.dropmax_jax.methods.reference import (
    KEY,
    LABELS,
    TARGET,
    assert_value_and_gradients,
    cross_entropy,
    float64_heads,
)

class_dropout = METHODS["class_dropout"]
LOGITS = oracle.random_heads(0, (6, 5)).logits


@pytest.mark.parametrize("retain_probability", [0.2, 0.6])
def test_value_and_gradient(retain_probability: float) -> None:
    o, _, _ = float64_heads()
    with oracle.enable_x64(True), np.errstate(divide="ignore"):
        retained = np.asarray(sample_retained_classes(KEY, o, LABELS, retain_probability))
        assert not retained.all()
        assert_value_and_gradients(
            lambda o: class_dropout.loss(
                KEY, Heads(o), LABELS, retain_probability=retain_probability
            ),
            lambda o: cross_entropy(o + np.log(retained.astype(float))),
            (o,),
        )


def test_retained_must_be_booleans_of_the_logits_shape() -> None:
    with pytest.raises(TypeError, match="retained must be a boolean array"):
        retained_cross_entropy(LOGITS, LABELS, jnp.ones((6, 5)))
    with pytest.raises(ValueError, match=r"retained must have shape \(6, 5\)"):
        retained_cross_entropy(LOGITS, LABELS, jnp.ones((6, 4), bool))


def test_how_often_classes_are_retained() -> None:
    logits, labels = jnp.zeros((20_000, 4)), jnp.full(20_000, 2)
    retained = sample_retained_classes(KEY, logits, labels, 0.3)
    np.testing.assert_allclose(retained.mean(0), [0.3, 0.3, 1.0, 0.3], atol=0.02)
    independent = (retained[:, 0] & retained[:, 1]).mean()
    assert abs(independent - 0.09) < 0.01


def test_softmax_if_all_are_retained() -> None:
    np.testing.assert_allclose(
        class_dropout.loss(KEY, Heads(LOGITS), LABELS, retain_probability=1.0),
        METHODS["softmax"].loss(KEY, Heads(LOGITS), LABELS),
        rtol=1e-5,
        atol=1e-6,
    )


def test_no_loss_if_only_the_target_is_retained() -> None:
    loss, gradient = jax.value_and_grad(
        lambda logits: retained_cross_entropy(logits, LABELS, jnp.asarray(TARGET)).sum()
    )(LOGITS)
    assert loss == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


def test_a_dropped_class_has_no_say() -> None:
    loss = retained_cross_entropy(jnp.array([0.0, 1e4]), 0, jnp.array([True, False]))
    assert loss == 0.0


def test_infinite_where_the_label_is_not_retained() -> None:
    retained = jnp.array([[False, True], [False, False], [True, False]])
    loss = retained_cross_entropy(jnp.zeros((3, 2)), jnp.zeros(3, int), retained)
    np.testing.assert_array_equal(loss, [np.inf, np.inf, 0.0])


def test_dropmax_with_the_same_probability_everywhere_as_its_temperature_goes_to_zero() -> None:
    rho = jnp.log(0.4 / 0.6)
    heads = Heads(jnp.broadcast_to(LOGITS, (2000, 6, 5)), *jnp.full((2, 2000, 6, 5), rho))
    labels = jnp.broadcast_to(jnp.asarray(LABELS), (2000, 6))
    log_mask = sample_log_mask(KEY, jnp.full((2000, 6, 5), rho), temperature=1e-4)
    dropmax = dropmax_loss_terms(heads, labels, log_mask).cross_entropy
    dropout = class_dropout.loss(KEY, heads, labels, retain_probability=0.4)
    error = np.sqrt((dropmax.var(0) + dropout.var(0)) / 2000)
    assert np.all(np.abs(dropmax.mean(0) - dropout.mean(0)) < 5 * error)


def test_prediction_is_the_softmax() -> None:
    np.testing.assert_allclose(
        class_dropout.log_probs(Heads(LOGITS)), oracle.log_softmax(np.asarray(LOGITS)), atol=1e-5
    )
