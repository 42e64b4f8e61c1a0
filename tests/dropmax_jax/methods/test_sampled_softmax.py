import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import METHODS, Heads
from dropmax_jax.methods.sampled_softmax import sample_class_subset
from tests.dropmax_jax import oracle
from tests.dropmax_jax.methods.reference import (
    KEY,
    LABELS,
    assert_value_and_gradients,
    cross_entropy,
    float64_heads,
)

sampled_softmax = METHODS["sampled_softmax"]


@pytest.mark.parametrize("sampled_fraction", [0.4, 0.6])
def test_value_and_gradient(sampled_fraction: float) -> None:
    o, _, _ = float64_heads()
    with oracle.enable_x64(True), np.errstate(divide="ignore"):
        subset = np.asarray(sample_class_subset(KEY, o, LABELS, sampled_fraction))
        assert_value_and_gradients(
            lambda o: sampled_softmax.loss(
                KEY, Heads(o), LABELS, sampled_fraction=sampled_fraction
            ),
            lambda o: cross_entropy(o + np.log(subset.astype(float))),
            (o,),
        )


@pytest.mark.parametrize(
    ("num_classes", "sampled_fraction", "size"),
    [(10, 0.2, 2), (10, 0.4, 4), (10, 0.6, 6), (100, 0.2, 20), (10, 1.0, 10), (7, 0.4, 3)],
)
def test_size(num_classes: int, sampled_fraction: float, size: int) -> None:
    labels = jnp.arange(50) % num_classes
    subset = sample_class_subset(KEY, jnp.zeros((50, num_classes)), labels, sampled_fraction)
    np.testing.assert_array_equal(subset.sum(-1), size)
    assert np.all(subset[jnp.arange(50), labels])


@pytest.mark.parametrize(("num_classes", "size"), [(1, 1), (2, 2), (3, 2)])
def test_few_classes_leave_one_to_compare_with(num_classes: int, size: int) -> None:
    subset = sample_class_subset(KEY, jnp.zeros(num_classes), 0, 0.2)
    assert subset.sum() == size


def test_other_classes_are_equally_likely_and_drawn_per_example() -> None:
    labels = jnp.arange(20_000) % 5
    subset = sample_class_subset(KEY, jnp.zeros((20_000, 5)), labels, 0.6)
    for label in range(5):
        expected = np.where(np.arange(5) == label, 1.0, 0.5)
        np.testing.assert_allclose(subset[label::5].mean(0), expected, atol=0.04)
    pairs = (subset[0::5, 1] & subset[0::5, 2]).mean()
    assert abs(pairs - 1 / 6) < 0.03  # two of four without replacement


def test_softmax_if_all_classes_are_sampled() -> None:
    heads = Heads(oracle.random_heads(0, (6, 5)).logits)
    np.testing.assert_allclose(
        sampled_softmax.loss(KEY, heads, LABELS, sampled_fraction=1.0),
        METHODS["softmax"].loss(KEY, heads, LABELS),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_array_equal(
        sampled_softmax.log_probs(heads), METHODS["softmax"].log_probs(heads)
    )


def test_old_style_keys() -> None:
    logits, labels = jnp.zeros((5, 4)), jnp.arange(5) % 4
    subset = sample_class_subset(jax.random.PRNGKey(0), logits, labels, 0.5)
    np.testing.assert_array_equal(subset.sum(-1), 2)
