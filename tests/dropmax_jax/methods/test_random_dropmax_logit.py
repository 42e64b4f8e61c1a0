import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import METHODS, Heads
from dropmax_jax.methods.class_dropout import sample_retained_classes
from tests.dropmax_jax import oracle
from tests.dropmax_jax.methods.reference import (
    KEY,
    LABELS,
    assert_value_and_gradients,
    cross_entropy,
    float64_heads,
)

method = METHODS["random_dropmax_logit"]
HEADS = Heads(oracle.random_heads(0, (6, 5)).logits)


@pytest.mark.parametrize("retain_probability", [0.2, 0.6])
def test_value_and_gradient(retain_probability: float) -> None:
    o, _, _ = float64_heads()
    with oracle.enable_x64(True):
        retained = np.asarray(sample_retained_classes(KEY, o, LABELS, retain_probability))
        assert not retained.all()
        assert_value_and_gradients(
            lambda o: method.loss(KEY, Heads(o), LABELS, retain_probability=retain_probability),
            lambda o: cross_entropy(o * retained),
            (o,),
        )


def test_softmax_if_all_are_retained() -> None:
    np.testing.assert_allclose(
        method.loss(KEY, HEADS, LABELS, retain_probability=1.0),
        METHODS["softmax"].loss(KEY, HEADS, LABELS),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_array_equal(method.log_probs(HEADS), METHODS["softmax"].log_probs(HEADS))


def test_a_dropped_class_has_the_logit_zero_and_the_target_its_own() -> None:
    heads = Heads(jnp.array([3.0, 9.0, 9.0]))
    loss = method.loss(KEY, heads, jnp.array(0), retain_probability=1e-6)
    np.testing.assert_allclose(loss, np.log(np.exp(3) + 2) - 3, rtol=1e-5)
