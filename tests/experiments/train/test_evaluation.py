import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import METHODS, Heads, Method, metrics
from experiments.data.datasets import Dataset
from experiments.data.split import Split
from experiments.runtime import devices
from experiments.train import evaluation
from experiments.train.config import Config
from experiments.train.steps import programs
from experiments.train.steps.setup import Setup, make_setup
from tests.experiments import tiny

SEEDS = jnp.array([0, 1], jnp.int32)


def setup_of(model: str = "dropmax", method: Method | None = None) -> Setup:
    setup = make_setup(Config(model, network="tiny", batch_size=8), 200)
    parts = (
        setup.network,
        setup.optimizer,
        setup.hyperparameters,
        setup.batch_size,
        setup.num_train,
    )
    return setup if method is None else Setup(method, *parts)


def params_of(setup: Setup) -> Any:
    """Initial parameters of two seeds."""
    return jax.tree.map(np.asarray, programs.initial_states(setup, SEEDS).params)


def plain_heads(setup: Setup, params: Any, images: np.ndarray) -> Heads:
    """The network applied to all images at once, seed by seed."""
    pixels = jnp.asarray(images, jnp.float32)[..., None] / 255
    of_seeds = [
        setup.network.apply(jax.tree.map(lambda leaf, seed=seed: leaf[seed], params), pixels)
        for seed in range(len(SEEDS))
    ]
    heads: Heads = jax.tree.map(lambda *heads: np.stack(heads), *of_seeds)
    return heads


def predicted(setup: Setup, params: Any, images: Split, num_samples: int = 0) -> Heads:
    predict = evaluation.predictor(setup.network, num_samples)
    spread = evaluation.shard_images(images, setup.network)
    heads: Heads = predict(devices.replicate(params), SEEDS, spread)
    return heads


def some(split: Split, count: int) -> Split:
    return Split(split.images[:count], split.labels[:count])


class TestPredictor:
    @pytest.mark.parametrize("count", [1, 199, 1000])
    def test_gives_what_the_network_gives(self, small_data: Dataset, count: int) -> None:
        setup = setup_of()
        params, images = params_of(setup), some(small_data.validation, count)
        heads = predicted(setup, params, images)
        wanted = plain_heads(setup, params, images.images)
        assert [head.shape for head in jax.tree.leaves(heads)] == [(2, count, 10)] * 3
        assert tiny.largest_difference(heads, wanted) < 1e-5

    def test_more_images_than_one_part(
        self, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Parts of 64 give the same as one part, whatever padding the last has."""
        setup = setup_of()
        params = params_of(setup)
        whole = predicted(setup, params, small_data.test)
        monkeypatch.setattr(evaluation, "_PART", 64)
        monkeypatch.setattr(evaluation, "_BATCHES", 4)
        images = evaluation.shard_images(small_data.test, setup.network)
        assert [np.shape(part) for part in images.parts] == [(1, 4, 16, 28, 28)] * 4
        parts = predicted(setup, params, small_data.test)
        assert tiny.largest_difference(parts, whole) < 1e-6

    def test_samples_do_not_depend_on_parts(
        self, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The noise of dropout belongs to an image, not to its place in a part."""
        setup = setup_of("mc_dropout")
        params = params_of(setup)
        whole = predicted(setup, params, small_data.test, 3).logits
        assert whole.shape == (2, 3, 200, 10)
        monkeypatch.setattr(evaluation, "_PART", 64)
        monkeypatch.setattr(evaluation, "_BATCHES", 4)
        # Another number, because compiled programs are kept for a setup and number of samples.
        other = setup_of("mc_dropout")
        np.testing.assert_allclose(
            predicted(other, params, small_data.test, 3).logits, whole, atol=1e-6
        )

    def test_a_function_of_the_heads_sees_one_part_at_a_time(
        self, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With many classes and samples, the heads of all images do not fit."""
        monkeypatch.setattr(evaluation, "_PART", 64)
        monkeypatch.setattr(evaluation, "_BATCHES", 4)
        setup, shapes = setup_of("mc_dropout"), []

        def first_sample(heads: Heads) -> Any:
            shapes.append(heads.logits.shape)
            return heads.logits[:, 0]

        params, test = params_of(setup), small_data.test
        images = evaluation.shard_images(test, setup.network)
        predict = evaluation.predictor(setup.network, 3)
        found = predict(devices.replicate(params), SEEDS, images, first_sample)
        assert shapes == [(2, 3, 64, 10)] * 4
        np.testing.assert_array_equal(found, predicted(setup, params, test, 3).logits[:, 0])

    def test_samples_differ_by_sample_seed_and_image(self, small_data: Dataset) -> None:
        setup = setup_of("mc_dropout")
        one_seed = jax.tree.map(lambda leaf: leaf[:1], params_of(setup))
        params = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), one_seed)
        equal = Split(np.repeat(small_data.test.images[:1], 5, 0), np.zeros(5, np.int32))
        logits = np.asarray(predicted(setup, params, equal, 4).logits)
        assert len(np.unique(logits[..., 0])) > 30
        # Nothing differs without dropout.
        assert len(np.unique(np.asarray(predicted(setup, params, equal).logits)[..., 0])) == 1

    def test_mean_of_samples_nears_the_prediction_without_dropout(
        self, small_data: Dataset
    ) -> None:
        """Dropout keeps the features' mean, and the heads are linear in them."""
        setup = setup_of("mc_dropout")
        params, images = params_of(setup), some(small_data.test, 20)
        samples = np.asarray(predicted(setup, params, images, 400).logits)
        error = samples.std(1) / np.sqrt(400)
        difference = np.abs(samples.mean(1) - plain_heads(setup, params, images.images).logits)
        assert np.all(difference < 6 * error + 1e-6)
        assert np.all(error > 0)


def figures_of(log_probs: Any, labels: np.ndarray) -> np.ndarray:
    """Error, NLL, ECE and Brier score of each seed, `[4, seeds]`."""
    of_seeds = [
        [
            100 * metrics.error_rate(one, labels),
            metrics.nll(one, labels),
            100 * metrics.expected_calibration_error(one, labels),
            metrics.brier(one, labels),
        ]
        for one in log_probs
    ]
    return np.array(of_seeds).T


class TestEvaluate:
    @pytest.mark.parametrize(
        "model", [name for name, method in METHODS.items() if not method.num_samples]
    )
    def test_figures_are_those_of_the_plain_network(self, model: str, small_data: Dataset) -> None:
        setup = setup_of(model)
        params = params_of(setup)
        (found,), _ = evaluation.evaluate(
            setup, params, SEEDS, small_data.validation, small_data.test
        )
        heads = plain_heads(setup, params, small_data.test.images)
        validation = plain_heads(setup, params, small_data.validation.images)
        log_probs = []
        for seed in range(2):
            fitted = None
            if setup.method.fit is not None:
                fitted = setup.method.fit(
                    of_seed(validation, seed), jnp.asarray(small_data.validation.labels)
                )
            log_probs.append(setup.method.log_probs(of_seed(heads, seed), fitted))
        np.testing.assert_allclose(
            np.array(found), figures_of(log_probs, small_data.test.labels), rtol=1e-4, atol=1e-4
        )

    def test_what_is_fitted_is_fitted_on_the_validation_set_of_each_seed(
        self, small_data: Dataset
    ) -> None:
        """The fit is the mean of the logits and of the labels, and is the whole prediction."""

        def fit(heads: Heads, labels: jax.Array) -> Any:
            return {"logits": heads.logits.mean(0), "label": labels.mean()}

        def log_probs(heads: Heads, fitted: Any) -> jax.Array:
            shifted = fitted["logits"] * (1 + fitted["label"])
            return jax.nn.log_softmax(jnp.broadcast_to(shifted, heads.logits.shape))

        method = dataclasses.replace(METHODS["softmax"], predict=log_probs, fit=fit)
        setup = setup_of("softmax", method)
        params = params_of(setup)
        labelled_3 = Split(small_data.validation.images, np.full(1000, 3, np.int32))
        (found,), _ = evaluation.evaluate(setup, params, SEEDS, labelled_3, small_data.test)
        means = plain_heads(setup, params, labelled_3.images).logits.mean(1)
        wanted = [jnp.tile(jax.nn.log_softmax(4 * mean), (200, 1)) for mean in means]
        np.testing.assert_allclose(
            np.array(found), figures_of(wanted, small_data.test.labels), rtol=1e-4, atol=1e-4
        )
        assert found.nll[0] != found.nll[1]

    def test_samples_are_averaged_as_probabilities(self, small_data: Dataset) -> None:
        method = dataclasses.replace(METHODS["softmax"], dropout_rate=0.5, num_samples=3)
        setup = setup_of("mc_dropout", method)
        params = jax.tree.map(lambda leaf: 5 * leaf, params_of(setup))
        (found,), _ = evaluation.evaluate(
            setup, params, SEEDS, small_data.validation, small_data.test
        )
        logits = np.asarray(predicted(setup, params, small_data.test, 3).logits, np.float64)
        probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        wanted = figures_of(jnp.log(probs.mean(1)), small_data.test.labels)
        np.testing.assert_allclose(np.array(found), wanted, rtol=1e-4, atol=1e-4)
        # This is not the mean of the logits.
        other = figures_of(jax.nn.log_softmax(logits.mean(1)), small_data.test.labels)
        assert np.all(np.abs(other[1] - wanted[1]) > 0.01)

    def test_figures_have_one_number_a_seed(self, small_data: Dataset) -> None:
        log_probs = jnp.log(jnp.full((3, 200, 10), 0.1))
        found = evaluation.measure(log_probs, small_data.test.labels)
        np.testing.assert_allclose(found.error_percent, [90] * 3, rtol=1e-6)
        np.testing.assert_allclose(found.nll, [np.log(10)] * 3, rtol=1e-6)
        np.testing.assert_allclose(found.ece_percent, [0] * 3, atol=1e-4)
        np.testing.assert_allclose(found.brier, [0.9] * 3, rtol=1e-5)


def of_seed(heads: Heads, seed: int) -> Heads:
    one: Heads = jax.tree.map(lambda head: jnp.asarray(head[seed]), heads)
    return one
