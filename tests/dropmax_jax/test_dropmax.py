import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import (
    Heads,
    dropmax_log_probs,
    dropmax_logits,
    dropmax_loss,
    dropmax_loss_terms,
    elbo,
    posterior_logits,
    sample_dropmax_log_probs,
    sample_log_mask,
)
from tests.dropmax_jax import oracle

KEY = jax.random.key(0)
HEADS = oracle.random_heads(0, (6, 5))
LABELS = jnp.array([0, 1, 2, 3, 4, 0])


def mean_loss(heads: Heads, key: jax.Array = KEY, labels: jax.Array = LABELS) -> jax.Array:
    return dropmax_loss(key, heads, labels).mean()


def assert_trees_close(actual: Any, expected: Any, rtol: float = 1e-5) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6), actual, expected
    )


# What the model says.


def test_target_is_always_kept() -> None:
    dropped = jnp.full((6, 5), -jnp.inf)
    terms = dropmax_loss_terms(HEADS, LABELS, dropped, epsilon=0.0)
    np.testing.assert_array_equal(terms.cross_entropy, 0.0)  # nothing but the target is left
    for log_mask_of_target in (-jnp.inf, -3.0, 0.0):
        mask = sample_log_mask(KEY, posterior_logits(HEADS))
        mask = jnp.where(oracle.one_hot(np.asarray(LABELS), 5), log_mask_of_target, mask)
        terms = dropmax_loss_terms(HEADS, LABELS, mask)
        reference = dropmax_loss_terms(HEADS, LABELS, jnp.minimum(mask, 0.0))
        assert_trees_close(terms, reference)


def test_target_gains_exactly_log_one_plus_epsilon() -> None:
    terms = dropmax_loss_terms(HEADS, LABELS, jnp.full((6, 5), -jnp.inf), epsilon=0.5)
    target = oracle.one_hot(np.asarray(LABELS), 5)
    masked = np.asarray(HEADS.logits, np.float64) + np.where(target, np.log(1.5), np.log(0.5))
    expected = -oracle.log_softmax(masked)[target]
    np.testing.assert_allclose(terms.cross_entropy, expected, rtol=1e-5)


def test_loss_is_the_sum_of_terms_for_a_posterior_mask() -> None:
    log_mask = sample_log_mask(KEY, posterior_logits(HEADS), 0.3)
    terms = dropmax_loss_terms(HEADS, LABELS, log_mask, 1e-3)
    loss = dropmax_loss(KEY, HEADS, LABELS, temperature=0.3, epsilon=1e-3)
    np.testing.assert_allclose(loss, sum(terms), rtol=1e-6)
    bound = elbo(KEY, HEADS, LABELS, temperature=0.3, epsilon=1e-3)
    np.testing.assert_allclose(bound, -terms.cross_entropy - terms.kl_divergence, rtol=1e-6)


def test_certain_retention_is_the_softmax() -> None:
    heads = Heads(HEADS.logits, jnp.full((6, 5), 50.0), jnp.zeros((6, 5)))
    log_softmax = jax.nn.log_softmax(HEADS.logits)
    cross_entropy = -log_softmax[jnp.arange(6), LABELS]
    np.testing.assert_allclose(dropmax_log_probs(heads), log_softmax, rtol=1e-5)
    np.testing.assert_allclose(elbo(KEY, heads, LABELS), -cross_entropy, rtol=1e-5)
    samples = sample_dropmax_log_probs(KEY, heads, 3)
    np.testing.assert_allclose(samples, jnp.tile(log_softmax, (3, 1, 1)), rtol=1e-5)


def test_equal_retention_predicts_the_softmax() -> None:
    heads = Heads(HEADS.logits, jnp.full((6, 5), -1.5))
    np.testing.assert_allclose(
        dropmax_log_probs(heads), jax.nn.log_softmax(HEADS.logits), rtol=1e-5
    )


def test_dropping_a_class_with_certainty_removes_it() -> None:
    heads = HEADS._replace(prior_logits=jnp.full((6, 5), 50.0).at[:, 2].set(-1e4))
    probs = np.exp(dropmax_log_probs(heads))
    np.testing.assert_allclose(probs[:, 2], 0.0, atol=1e-12)
    kept = np.delete(np.asarray(HEADS.logits), 2, axis=-1)
    np.testing.assert_allclose(np.delete(probs, 2, -1), jax.nn.softmax(kept), rtol=1e-5)


def marginal_log_probs(logits: Any, retention: Any) -> Any:
    """log of E[p(y|x, z)] for every class, with all masks z of the prior enumerated."""
    total = np.zeros(len(logits))
    for z in itertools.product([0.0, 1.0], repeat=len(logits)):
        mask = np.array(z)
        weight = np.prod(np.where(mask == 1.0, retention, 1.0 - retention))
        total += weight * np.exp(oracle.log_softmax(logits + np.log(mask + 1e-20)))
    return np.log(total)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_elbo_with_hard_masks_is_below_the_marginal(seed: int) -> None:
    heads = oracle.random_heads(seed, (4,), scale=1.0)
    assert heads.prior_logits is not None
    marginal = marginal_log_probs(
        np.asarray(heads.logits, np.float64),
        oracle.sigmoid(np.asarray(heads.prior_logits, np.float64)),
    )
    size = 20_000
    many = Heads(*(jnp.broadcast_to(head, (size, 4)) for head in heads if head is not None))
    for label in range(4):
        bounds = elbo(KEY, many, jnp.full(size, label), temperature=1e-5)
        error = 4.0 * float(bounds.std()) / np.sqrt(size)
        assert float(bounds.mean()) <= marginal[label] + error
        assert float(bounds.mean()) >= marginal[label] - 5.0  # the bound is not vacuous


def test_sampled_predictions_average_to_the_marginal() -> None:
    heads = oracle.random_heads(4, (4,), scale=1.0)._replace(label_logits=None)
    assert heads.prior_logits is not None
    samples = np.exp(sample_dropmax_log_probs(KEY, heads, 40_000, temperature=1e-5))
    marginal = marginal_log_probs(
        np.asarray(heads.logits, np.float64),
        oracle.sigmoid(np.asarray(heads.prior_logits, np.float64)),
    )
    error = 4.5 * samples.std(0) / np.sqrt(len(samples))
    assert np.all(np.abs(samples.mean(0) - np.exp(marginal)) < error)


def test_prior_gets_no_gradient_through_the_posterior() -> None:
    def cross_entropy(heads: Heads) -> jax.Array:
        log_mask = sample_log_mask(KEY, posterior_logits(heads))
        return dropmax_loss_terms(heads, LABELS, log_mask).cross_entropy.sum()

    gradients = jax.jit(jax.grad(cross_entropy))(HEADS)
    np.testing.assert_array_equal(gradients.prior_logits, 0.0)
    assert np.abs(gradients.label_logits).max() > 0.0


def test_no_gradient_reaches_the_mask_of_the_target() -> None:
    def cross_entropy(log_mask: jax.Array) -> jax.Array:
        return dropmax_loss_terms(HEADS, LABELS, log_mask).cross_entropy.sum()

    gradient = jax.grad(cross_entropy)(jnp.full((6, 5), -0.5))
    target = oracle.one_hot(np.asarray(LABELS), 5)
    np.testing.assert_array_equal(gradient[target], 0.0)
    assert np.all(gradient[~target] > 0.0)


def test_permuting_classes_permutes_the_result() -> None:
    order = np.array([3, 0, 4, 1, 2])
    log_mask = sample_log_mask(KEY, posterior_logits(HEADS))
    permuted = Heads(*(head[:, order] for head in HEADS if head is not None))
    labels = jnp.asarray(np.argsort(order))[LABELS]
    assert_trees_close(
        dropmax_loss_terms(permuted, labels, log_mask[:, order]),
        dropmax_loss_terms(HEADS, LABELS, log_mask),
    )
    np.testing.assert_allclose(
        dropmax_log_probs(permuted), dropmax_log_probs(HEADS)[:, order], rtol=1e-5
    )


def test_one_class_is_certain() -> None:
    heads = oracle.random_heads(0, (3, 1))
    labels = jnp.zeros(3, jnp.int32)
    log_mask = sample_log_mask(KEY, posterior_logits(heads))
    assert_trees_close(dropmax_loss_terms(heads, labels, log_mask).cross_entropy, jnp.zeros(3))
    np.testing.assert_array_equal(dropmax_log_probs(heads), 0.0)


def test_empty_batch() -> None:
    heads = oracle.random_heads(0, (0, 5))
    assert dropmax_loss(KEY, heads, jnp.zeros(0, jnp.int32)).shape == (0,)
    assert dropmax_log_probs(heads).shape == (0, 5)
    assert sample_dropmax_log_probs(KEY, heads, 2).shape == (2, 0, 5)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.int32, np.int64])
def test_labels_of_any_integer_dtype(dtype: Any) -> None:
    # Eight bits cannot count 300 classes.
    heads = oracle.random_heads(0, (4, 300))
    labels = np.array([0, 1, 100, 127])
    expected = dropmax_loss(KEY, heads, jnp.asarray(labels))
    found = dropmax_loss(KEY, heads, labels.astype(dtype))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


# Large numbers and low precision.


@pytest.mark.parametrize("epsilon", [1e-20, 1e-300, 0.0])
@pytest.mark.parametrize(
    ("dtype", "size"), [(jnp.float32, 1e4), (jnp.bfloat16, 1e4), (jnp.float16, 1e3)]
)
def test_huge_logits_are_finite(dtype: Any, size: float, epsilon: float) -> None:
    # Every combination of signs and zero, at the target and beside it.
    values = np.array(list(itertools.product([-size, 0.0, size], repeat=3)))
    target, other = (np.repeat(values, 27, axis=0), np.tile(values, (27, 1)))
    heads = Heads(
        *(jnp.asarray(head, dtype) for head in np.stack([target, other], -1).swapaxes(0, 1))
    )
    labels = jnp.zeros(len(target), jnp.int32)

    def total(heads: Heads) -> tuple[jax.Array, jax.Array]:
        loss = dropmax_loss(KEY, heads, labels, epsilon=epsilon)
        return loss.sum(), loss

    gradients, loss = jax.jit(jax.grad(total, has_aux=True))(heads)
    assert loss.dtype == jnp.float32
    assert np.all(np.isfinite(loss))
    for gradient in gradients:
        assert gradient.dtype == dtype
        assert np.all(np.isfinite(gradient.astype(np.float32)))
    for log_probs in (
        dropmax_log_probs(heads, epsilon),
        sample_dropmax_log_probs(KEY, heads, 2, epsilon=epsilon),
    ):
        assert log_probs.dtype == jnp.float32
        assert not np.any(np.isnan(log_probs))
        np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1.0, rtol=1e-5)


def test_epsilon_below_the_range_of_float32() -> None:
    log_mask = jnp.full((3,), -1000.0)
    masked = dropmax_logits(jnp.zeros(3), log_mask, epsilon=1e-300)
    np.testing.assert_allclose(masked, -300.0 * np.log(10.0), rtol=1e-6)


def test_classes_ruled_out_by_their_logit() -> None:
    heads = HEADS._replace(logits=HEADS.logits.at[:, 4].set(-jnp.inf))
    labels = jnp.array([0, 1, 2, 3, 0, 0])
    loss, gradients = jax.jit(jax.value_and_grad(mean_loss))(heads, KEY, labels)
    assert np.isfinite(loss)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
    np.testing.assert_array_equal(np.exp(dropmax_log_probs(heads))[:, 4], 0.0)


def test_float64_is_kept() -> None:
    with oracle.enable_x64():
        heads = Heads(*(jnp.asarray(head, jnp.float64) for head in HEADS))
        mixed = heads._replace(logits=HEADS.logits)
        for case in (heads, mixed):
            assert (
                dropmax_loss(KEY, case, LABELS, temperature=jnp.float32(0.1)).dtype == jnp.float64
            )
            assert dropmax_log_probs(case).dtype == jnp.float64


# Keys and transformations.


def test_same_key_same_draw() -> None:
    first, second = (dropmax_loss(KEY, HEADS, LABELS) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.any(first == dropmax_loss(jax.random.key(1), HEADS, LABELS))


def test_old_and_new_style_keys_agree() -> None:
    old, new = jax.random.PRNGKey(3), jax.random.key(3)
    np.testing.assert_array_equal(
        dropmax_loss(old, HEADS, LABELS), dropmax_loss(new, HEADS, LABELS)
    )


@pytest.mark.parametrize(
    "transform", [jax.jit, jax.checkpoint, lambda f: jax.jit(jax.checkpoint(f))]
)
def test_jit_and_checkpoint_change_nothing(transform: Callable[..., Any]) -> None:
    expected = jax.value_and_grad(mean_loss)(HEADS)
    assert_trees_close(jax.value_and_grad(transform(mean_loss))(HEADS), expected)


def test_vmap_is_a_loop() -> None:
    keys = jax.random.split(KEY, 3)
    heads = oracle.random_heads(1, (3, 6, 5))
    step = jax.jit(jax.value_and_grad(mean_loss))
    one_by_one = [step(jax.tree.map(lambda a, i=i: a[i], heads), keys[i]) for i in range(3)]
    expected = jax.tree.map(lambda *rows: jnp.stack(rows), *one_by_one)
    assert_trees_close(jax.vmap(step)(heads, keys), expected)


def test_vmap_over_temperatures() -> None:
    temperatures = jnp.array([0.1, 0.5])
    loss_at = jax.jit(lambda t: dropmax_loss(KEY, HEADS, LABELS, temperature=t))
    losses = jax.vmap(loss_at)(temperatures)
    for temperature, loss in zip((0.1, 0.5), losses, strict=True):
        expected = dropmax_loss(KEY, HEADS, LABELS, temperature=temperature)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_pmap_on_one_device() -> None:
    one = jax.tree.map(lambda a: a[None], (HEADS, KEY))
    mapped = jax.pmap(mean_loss, devices=jax.devices()[:1])(*one)
    np.testing.assert_allclose(mapped[0], mean_loss(HEADS), rtol=1e-6)


def test_scan_descends() -> None:
    def step(heads: Heads, key: jax.Array) -> tuple[Heads, jax.Array]:
        loss, gradients = jax.value_and_grad(mean_loss)(heads, key)
        return jax.tree.map(lambda a, g: a - 2.0 * g, heads, gradients), loss

    _, losses = jax.lax.scan(step, HEADS, jax.random.split(KEY, 100))
    assert losses[-1] < 0.5 * losses[0]


def test_jacobians_agree_in_both_modes() -> None:
    forward, reverse = (jax.jit(mode(mean_loss))(HEADS) for mode in (jax.jacfwd, jax.jacrev))
    assert_trees_close(forward, reverse)


def test_hessian_at_zero_heads_is_symmetric_and_right() -> None:
    with oracle.enable_x64():
        zeros = Heads(*jnp.zeros((3, 1, 3)))

        def prior_loss(prior: jax.Array) -> jax.Array:
            return mean_loss(zeros._replace(prior_logits=prior), KEY, jnp.zeros(1, jnp.int32))

        hessian = jax.jit(jax.hessian(prior_loss))(jnp.zeros((1, 3))).reshape(3, 3)
        # Negative entropy has curvature 1/4 at 0, and so has -log ρ_t or KL(q‖ρ) with q constant.
        np.testing.assert_allclose(hessian, 0.5 * np.eye(3), atol=1e-12)


def test_eval_shape() -> None:
    shape = jax.eval_shape(mean_loss, HEADS)
    assert shape.shape == ()
    assert shape.dtype == jnp.float32


def test_checkpointed_loss_keeps_only_the_heads() -> None:
    # A checkpointed loss keeps only its arguments for the backward pass, nothing else of size K.
    _, backward = jax.vjp(jax.checkpoint(mean_loss), HEADS)
    kept = [leaf for leaf in jax.tree.leaves(backward) if getattr(leaf, "ndim", 0) == 2]
    assert len(kept) <= 3
