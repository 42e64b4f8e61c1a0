import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dropmax_jax import METHODS, Heads
from tests.dropmax_jax import oracle
from tests.dropmax_jax.methods.reference import (
    KEY,
    LABELS,
    TARGET,
    assert_value_and_gradients,
    float64_heads,
)

METHOD = METHODS["label_smoothing"]
LOGITS = oracle.random_heads(0, (6, 5)).logits


@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_value_and_gradient(smoothing: float) -> None:
    smoothed = (1 - smoothing) * TARGET + smoothing / 5
    o, _, _ = float64_heads()
    with oracle.enable_x64(True):
        assert_value_and_gradients(
            lambda o: METHOD.loss(KEY, Heads(o), LABELS, smoothing=smoothing),
            lambda o: np.asarray(-(smoothed * oracle.log_softmax(o)).sum(-1)),
            (o,),
        )


def test_is_the_softmax_of_smoothed_labels() -> None:
    smoothed = optax.smooth_labels(jnp.asarray(TARGET, jnp.float32), 0.2)
    np.testing.assert_allclose(
        METHOD.loss(KEY, Heads(LOGITS), LABELS, smoothing=0.2),
        METHODS["softmax"].loss(KEY, Heads(LOGITS), smoothed),
        rtol=1e-6,
    )


def test_classes_that_do_not_exist_get_no_share() -> None:
    where = jnp.arange(5) < 4
    labels = LABELS % 4
    full = METHOD.loss(KEY, Heads(LOGITS), labels, where=jnp.broadcast_to(where, LOGITS.shape))
    np.testing.assert_allclose(full, METHOD.loss(KEY, Heads(LOGITS[:, :4]), labels), rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 1.5])
def test_refuses_what_is_no_share(smoothing: float) -> None:
    with pytest.raises(ValueError, match="smoothing must be above 0 and at most 1"):
        METHOD.loss(KEY, Heads(LOGITS), LABELS, smoothing=smoothing)
