import numpy as np

from dropmax_jax import METHODS
from tests.dropmax_jax import oracle
from tests.dropmax_jax.methods.reference import KEY, LABELS, heads_for

mc_dropout = METHODS["mc_dropout"]


def test_all_but_the_dropout_is_the_softmax() -> None:
    softmax = METHODS["softmax"]
    heads = heads_for(softmax, oracle.random_heads(0, (6, 5)))
    np.testing.assert_array_equal(
        mc_dropout.loss(KEY, heads, LABELS), softmax.loss(KEY, heads, LABELS)
    )
    np.testing.assert_array_equal(mc_dropout.log_probs(heads), softmax.log_probs(heads))
    assert (mc_dropout.dropout_rate, mc_dropout.num_samples) == (0.5, 50)
