"""Properties of every row of the table, so that a trainer needs no special cases."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dropmax_jax.methods
from dropmax_jax import METHODS, Heads, Method
from dropmax_jax.method import Terms
from tests.dropmax_jax import oracle
from tests.dropmax_jax.methods.reference import KEY, LABELS, heads_for

HEADS = oracle.random_heads(0, (6, 5))
every_method = pytest.mark.parametrize("name", METHODS)


def fitted(name: str, heads: Heads) -> Any:
    fit = METHODS[name].fit
    return None if fit is None else fit(heads, jnp.asarray(LABELS))


# One program for all three, which the tests share where their shapes are the same.
@functools.partial(jax.jit, static_argnums=0)
def loss_terms_and_log_probs(
    method: Method, key: jax.Array, heads: Heads, labels: Any
) -> tuple[jax.Array, Terms, jax.Array]:
    loss, terms = method.loss(key, heads, labels), method.terms(key, heads, labels)
    return loss, terms, method.log_probs(heads)


@functools.partial(jax.jit, static_argnums=0)
def fitted_log_probs(name: str, heads: Heads) -> jax.Array:
    return METHODS[name].log_probs(heads, fitted(name, heads))


def test_every_file_is_a_row_and_every_row_a_file() -> None:
    folder = Path(dropmax_jax.methods.__file__).parent
    files = {file.stem for file in folder.glob("[a-z]*.py")}
    assert set(METHODS) == files


def test_the_rows_of_the_paper_come_first_and_in_its_order() -> None:
    assert list(METHODS)[:7] == [
        "softmax",
        "sparsemax",
        "sampled_softmax",
        "class_dropout",
        "deterministic_attention",
        "dropmax_prior",
        "dropmax",
    ]


@every_method
@pytest.mark.parametrize("shape", [(), (2, 3), (0,)])
def test_shapes(name: str, shape: tuple[int, ...]) -> None:
    method = METHODS[name]
    heads = heads_for(method, oracle.random_heads(1, (*shape, 5)))
    labels = jnp.zeros(shape, jnp.int32)
    loss, terms, log_probs = loss_terms_and_log_probs(method, KEY, heads, labels)
    assert loss.shape == shape
    assert all(term.shape == shape for term in terms.values())
    np.testing.assert_allclose(sum(terms.values()), loss, rtol=1e-5, atol=1e-6)
    assert log_probs.shape == (*shape, 5)
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), np.ones(shape), rtol=1e-5)


@every_method
def test_a_step_of_training_with_a_key_per_example(name: str) -> None:
    method = METHODS[name]
    keys = jax.random.split(KEY, len(LABELS))

    def losses(heads: Heads) -> jax.Array:
        terms = jax.vmap(method.terms)(keys, heads, jnp.asarray(LABELS))
        return jnp.stack(list(terms.values())).sum(0)

    @jax.jit
    def losses_and_gradients(heads: Heads) -> tuple[jax.Array, Heads]:
        return losses(heads), jax.grad(lambda heads: losses(heads).mean())(heads)

    heads = heads_for(method, HEADS)
    vmapped, gradients = losses_and_gradients(heads)
    one_by_one = [
        loss_terms_and_log_probs(
            method, key, jax.tree.map(lambda head, i=i: head[i], heads), np.int32(LABELS[i])
        )[0]
        for i, key in enumerate(keys)
    ]
    np.testing.assert_allclose(vmapped, np.stack(one_by_one), rtol=1e-4, atol=1e-5)
    assert len(jax.tree.leaves(gradients)) == len(method.heads)
    for leaf in jax.tree.leaves(gradients):
        assert np.all(np.isfinite(leaf))
        assert np.any(leaf != 0.0)


@every_method
def test_fitted_and_predicted_for_several_seeds_at_once(name: str) -> None:
    method = METHODS[name]
    heads = heads_for(method, oracle.random_heads(2, (3, 6, 5)))

    found = jax.jit(jax.vmap(functools.partial(fitted_log_probs, name)))(heads)
    expected = [
        fitted_log_probs(name, jax.tree.map(lambda head, i=i: head[i], heads)) for i in range(3)
    ]
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-3, atol=1e-4)


@every_method
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_finite_for_extreme_logits_of_any_float(name: str, dtype: Any) -> None:
    method = METHODS[name]
    signs = np.random.default_rng(3).choice([-1e4, 0.0, 1e4], size=(3, 6, 5))
    heads = heads_for(method, Heads(*jnp.asarray(signs, dtype)))

    def mean_loss(heads: Heads) -> jax.Array:
        return method.loss(KEY, heads, LABELS).mean()

    loss, gradients = jax.jit(jax.value_and_grad(mean_loss))(heads)
    log_probs = fitted_log_probs(name, heads)
    assert loss.dtype == log_probs.dtype == jnp.float32
    assert np.isfinite(loss)
    assert np.all(np.isfinite(log_probs))
    for leaf in jax.tree.leaves(gradients):
        assert leaf.dtype == dtype
        assert np.all(np.isfinite(leaf.astype(jnp.float32)))


@every_method
def test_float64_stays_float64(name: str) -> None:
    with oracle.enable_x64(True):
        method = METHODS[name]
        heads = heads_for(method, jax.tree.map(np.float64, HEADS))
        terms = jax.eval_shape(method.terms, KEY, heads, jnp.asarray(LABELS))
        assert all(term.dtype == np.float64 for term in terms.values())
        log_probs = jax.eval_shape(functools.partial(fitted_log_probs, name), heads)
        assert log_probs.dtype == np.float64


@every_method
def test_classes_have_no_order(name: str) -> None:
    method = METHODS[name]
    heads = heads_for(method, HEADS)
    order = np.array([3, 0, 4, 1, 2])
    moved = jax.tree.map(lambda head: head[:, order], heads)
    moved_labels = np.argsort(order)[LABELS]
    log_probs, moved_log_probs = (
        loss_terms_and_log_probs(method, KEY, *each)[2]
        for each in ((heads, LABELS), (moved, moved_labels))
    )
    np.testing.assert_allclose(moved_log_probs, log_probs[:, order], rtol=1e-5, atol=1e-5)

    @jax.jit
    def losses(heads: Heads, labels: jax.Array) -> jax.Array:
        keys = jax.random.split(KEY, 4000)
        return jax.vmap(lambda key: method.loss(key, heads, labels))(keys)

    one, other = losses(heads, jnp.asarray(LABELS)), losses(moved, jnp.asarray(moved_labels))
    error = np.sqrt((one.var(0) + other.var(0)) / 4000)
    assert np.all(np.abs(one.mean(0) - other.mean(0)) < 5 * error + 1e-4)


@every_method
def test_wrong_labels_are_refused(name: str) -> None:
    method = METHODS[name]
    heads = heads_for(method, HEADS)
    for labels, error, message in (
        (LABELS[:5], ValueError, r"labels must have shape \(6,\)"),
        (LABELS.astype(float), (TypeError, ValueError), "labels must be (an )?integer"),
    ):
        with pytest.raises(error, match=message):
            jax.eval_shape(functools.partial(method.loss, KEY, labels=labels), heads)
    if method.fit is not None:
        with pytest.raises(ValueError, match=r"labels must have shape \(6,\)"):
            method.fit(heads, jnp.asarray(LABELS[:5]))


@every_method
def test_missing_heads_are_refused(name: str) -> None:
    method = METHODS[name]
    for missing in set(method.heads) - {"logits"}:
        heads = Heads(**{**heads_for(method, HEADS)._asdict(), missing: None})
        with pytest.raises(ValueError, match=rf"heads\.{missing} must be"):
            method.loss(KEY, heads, LABELS)
        if missing == "prior_logits":
            with pytest.raises(ValueError, match=rf"heads\.{missing} must be"):
                method.log_probs(heads)


@every_method
def test_logits_alone_are_no_heads(name: str) -> None:
    method: Any = METHODS[name]
    with pytest.raises(TypeError, match=r"heads must be a dropmax_jax\.Heads"):
        method.loss(KEY, HEADS.logits, LABELS)
    with pytest.raises(TypeError, match=r"heads must be a dropmax_jax\.Heads"):
        method.log_probs(HEADS.logits)


@every_method
def test_hyperparameters_may_be_traced(name: str) -> None:
    method = METHODS[name]
    heads = heads_for(method, HEADS)
    for hyperparameter, default in method.hyperparameters.items():

        def loss(value: jax.Array, hyperparameter: str = hyperparameter) -> jax.Array:
            return method.loss(KEY, heads, LABELS, **{hyperparameter: value})

        expected, _, _ = loss_terms_and_log_probs(method, KEY, heads, LABELS)
        np.testing.assert_allclose(
            jax.jit(loss)(jnp.asarray(default)), expected, rtol=1e-4, atol=1e-5
        )


@every_method
def test_the_values_to_try_hold_the_default(name: str) -> None:
    for hyperparameter, values in METHODS[name].search_space.items():
        assert METHODS[name].hyperparameters[hyperparameter] in values


@pytest.mark.parametrize("name", ["class_dropout", "sampled_softmax", "random_dropmax_logit"])
def test_fractions_are_those_of_the_paper_and_nothing_else_is_taken(name: str) -> None:
    method = METHODS[name]
    heads = heads_for(method, HEADS)
    for hyperparameter, values in method.search_space.items():
        assert values == (0.2, 0.4, 0.6)
        for wrong in (0.0, -0.1, 1.1, np.nan, np.array(2.0)):
            with pytest.raises(ValueError, match=f"{hyperparameter} must be above 0 and at most 1"):
                method.loss(KEY, heads, LABELS, **{hyperparameter: wrong})
        for wrong_type in (True, "half", None):
            wrong_types: dict[str, Any] = {hyperparameter: wrong_type}
            with pytest.raises(TypeError, match=f"{hyperparameter} must be a number"):
                method.loss(KEY, heads, LABELS, **wrong_types)
        with pytest.raises(ValueError, match=f"{hyperparameter} must be a scalar"):
            method.loss(KEY, heads, LABELS, **{hyperparameter: jnp.ones(2)})
