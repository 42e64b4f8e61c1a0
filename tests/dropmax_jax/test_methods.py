import importlib
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dropmax_jax.methods
from dropmax_jax import METHODS, Heads, Method, dropmax_log_probs, dropmax_loss
from dropmax_jax.method import SingleTerm
from dropmax_jax.methods.softmax import softmax_log_probs, softmax_loss
from tests.dropmax_jax import oracle

KEY = jax.random.key(0)
HEADS = oracle.random_heads(0, (6, 5))
LABELS = jnp.array([0, 1, 2, 3, 4, 0])


def heads_of(method: Method) -> Heads:
    """Only the heads that the method asks for."""
    given = {name: getattr(HEADS, name) for name in method.heads}
    return Heads(**({"logits": HEADS.logits} | given))


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_loss_and_prediction_use_only_the_heads_named(self, name: str) -> None:
        method = METHODS[name]
        loss = method.loss(KEY, heads_of(method), LABELS)
        assert loss.shape == (6,)
        assert np.all(np.isfinite(loss))
        fitted = method.fit(heads_of(method), LABELS) if method.fit else None
        log_probs = method.log_probs(heads_of(method), fitted)
        assert log_probs.shape == (6, 5)
        np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1.0, rtol=1e-5)

    def test_terms_add_up_to_the_loss(self, name: str) -> None:
        method = METHODS[name]
        terms = method.terms(KEY, heads_of(method), LABELS)
        loss = method.loss(KEY, heads_of(method), LABELS)
        np.testing.assert_allclose(sum(terms.values()), loss, rtol=1e-5, atol=1e-6)

    def test_the_values_to_try_are_accepted(self, name: str) -> None:
        method = METHODS[name]
        for hyperparameter, values in method.search_space.items():
            for value in values:
                loss = method.loss(KEY, heads_of(method), LABELS, **{hyperparameter: value})
                assert np.all(np.isfinite(loss))

    def test_sampled_predictions_are_distributions(self, name: str) -> None:
        method = METHODS[name]
        if method.sample_log_probs is not None:
            samples = method.sample_log_probs(KEY, heads_of(method), 3)
            assert samples.shape == (3, 6, 5)
            np.testing.assert_allclose(np.exp(samples).sum(-1), 1.0, rtol=1e-5)

    def test_works_jitted_and_differentiated(self, name: str) -> None:
        method = METHODS[name]

        @jax.jit
        def step(heads: Heads) -> Heads:
            def mean_loss(heads: Heads) -> jax.Array:
                return method.loss(KEY, heads, LABELS).mean()

            gradients: Heads = jax.grad(mean_loss)(heads)
            return gradients

        assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(step(heads_of(method))))


def test_softmax_is_cross_entropy() -> None:
    expected = -jax.nn.log_softmax(HEADS.logits)[jnp.arange(6), LABELS]
    loss = METHODS["softmax"].loss(KEY, Heads(HEADS.logits), LABELS)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_dropmax_is_the_library() -> None:
    method = METHODS["dropmax"]
    loss = method.loss(KEY, HEADS, LABELS, temperature=0.5)
    np.testing.assert_array_equal(loss, dropmax_loss(KEY, HEADS, LABELS, temperature=0.5))
    np.testing.assert_array_equal(method.log_probs(HEADS), dropmax_log_probs(HEADS))
    terms = method.terms(KEY, HEADS, LABELS, temperature=0.5)
    assert list(terms) == list(dropmax_jax.LossTerms._fields)
    np.testing.assert_allclose(sum(terms.values()), loss, rtol=1e-6)


def test_a_single_term_is_the_loss_and_has_its_hyperparameters() -> None:
    def loss(key: jax.Array, heads: Heads, labels: jax.Array, *, scale: float = 2.0) -> jax.Array:
        return scale * softmax_loss(key, heads, labels)

    method = Method(("logits",), SingleTerm("scaled", loss), softmax_log_probs)
    assert method.hyperparameters == {"scale": 2.0}
    terms = method.terms(KEY, HEADS, LABELS, scale=3.0)
    assert list(terms) == ["scaled"]
    np.testing.assert_array_equal(terms["scaled"], method.loss(KEY, HEADS, LABELS, scale=3.0))
    np.testing.assert_allclose(terms["scaled"], 3 * softmax_loss(KEY, HEADS, LABELS), rtol=1e-6)


def test_modules_are_not_hidden_by_what_they_define() -> None:
    for name, method in METHODS.items():
        module = importlib.import_module(f"dropmax_jax.methods.{name}")
        assert getattr(dropmax_jax.methods, name) is module
        assert module.METHOD is method


def test_a_method_can_be_a_static_argument() -> None:
    @partial(jax.jit, static_argnums=0)
    def predict(method: Method, heads: Heads) -> jax.Array:
        return method.log_probs(heads)

    np.testing.assert_allclose(
        predict(METHODS["softmax"], HEADS), jax.nn.log_softmax(HEADS.logits), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"heads": ("logit",)}, "heads must name fields of Heads.*'logit'"),
        ({"search_space": {"margin": (0.1,)}}, "search_space must name .* arguments .*'margin'"),
        ({"dropout_rate": 1.0}, r"dropout_rate must be in \[0, 1\), but is 1.0"),
        ({"num_samples": -1}, "num_samples must be at least 0, but is -1"),
    ],
)
def test_a_method_that_cannot_be_is_refused(wrong: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {
        "heads": ("logits",),
        "loss_and_terms": SingleTerm("cross_entropy", softmax_loss),
        "predict": softmax_log_probs,
    }
    with pytest.raises(ValueError, match=message):
        Method(**(fields | wrong))  # type: ignore[arg-type]


def test_import_is_light() -> None:
    code = "import sys, dropmax_jax; print('flax' in sys.modules or 'sklearn' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_every_public_name_exists() -> None:
    for name in dropmax_jax.__all__:
        assert hasattr(dropmax_jax, name)
