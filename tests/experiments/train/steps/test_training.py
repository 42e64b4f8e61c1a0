import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import METHODS, Heads, weight_decay_mask
from dropmax_jax.method import SingleTerm
from experiments.data import datasets
from experiments.data.datasets import Dataset
from experiments.data.split import Split
from experiments.runtime import devices
from experiments.train import run
from experiments.train.config import Config
from experiments.train.steps import programs, training
from experiments.train.steps.setup import make_network, make_optimizer, make_setup
from experiments.train.steps.training import TrainState
from tests.experiments import numbers, tiny
from tests.experiments.numbers import flat, on_devices
from tests.experiments.tiny import Steps, largest_difference, seen

# The tests that share it, and the number of seeds, share compiled programs.
DROPMAX = Config("dropmax", network="tiny", batch_size=8, num_epochs=2)


def some(split: Split, count: int) -> Split:
    return Split(split.images[:count], split.labels[:count])


class TestExamples:
    """The parameters count how often each example was seen."""

    def test_each_is_seen_once_an_epoch_with_its_own_label(self) -> None:
        states = Steps(tiny.counting_setup(300, 20), tiny.numbered(300)).epochs(3)
        for epoch, state in enumerate(states, 1):
            assert seen(state).tolist() == [epoch] * 300
            assert state.totals["mismatches"] == 0

    def test_those_that_fill_no_batch_wait_for_another_epoch(self) -> None:
        setup = tiny.counting_setup(23, 5)
        assert setup.steps_per_epoch == 4
        states = Steps(setup, tiny.numbered(23)).epochs(6)
        counts = np.diff([np.zeros(23, int), *map(seen, states)], axis=0)
        assert set(counts.ravel()) == {0, 1}
        assert counts.sum(1).tolist() == [20] * 6
        assert counts.any(0).all()
        assert len({tuple(count) for count in counts}) > 1

    def test_are_reshuffled_every_epoch_and_for_every_seed(self) -> None:
        batches: list[tuple[int, ...]] = []
        for seed in (0, 1):
            steps = Steps(tiny.counting_setup(40, 10), tiny.numbered(40), seeds=(0, 1))
            before = np.zeros(40, int)
            for step in range(1, 9):
                now = seen(steps(step), seed)
                batches.append(tuple(np.nonzero(now - before)[0]))
                before = now
        assert all(len(batch) == 10 for batch in batches)
        # The batches of two seeds, two epochs and four steps all differ, none in the file's order.
        assert len(set(batches)) == 16
        assert not {tuple(range(first, first + 10)) for first in (0, 10, 20, 30)} & set(batches)

    def test_do_not_depend_on_where_calls_begin_and_end(self) -> None:
        setup, images = tiny.counting_setup(40, 4), tiny.numbered(40)
        for stops in ([10, 20], [1, 2, 5, 9, 10, 13, 20]):
            steps = Steps(setup, images)
            halfway = Steps(setup, images)
            for stop in stops:
                state = steps(stop)
            halfway(10)
            assert seen(halfway(17)).sum() == 68
            assert seen(state).tolist() == [2] * 40

    @numbers.DEVICE_COUNTS
    @pytest.mark.parametrize("batch_size", numbers.COUNTED)
    def test_are_the_same_on_any_number_of_devices(
        self, devices: int, batch_size: int, mnist_folder: Path
    ) -> None:
        """Neither devices nor padding examples change which examples count."""
        counts = on_devices(devices, mnist_folder)["counts"][str(batch_size)]
        assert counts == numbers.counts(batch_size)
        assert set(counts["first"]) == {0, 1}
        assert sum(counts["first"]) == 200
        assert counts["mismatches"] == 0


class TestDevices:
    @numbers.DEVICE_COUNTS
    @pytest.mark.parametrize("model", ["dropmax", "mc_dropout"])
    @pytest.mark.parametrize("what", ["first step", "first epoch"])
    def test_give_the_same_losses_and_terms(
        self, devices: int, model: str, what: str, mnist_folder: Path
    ) -> None:
        """The losses include mask and dropout noise, which belongs to each example."""
        wanted = flat(on_devices(1, mnist_folder)[model][what])
        found = flat(on_devices(devices, mnist_folder)[model][what])
        np.testing.assert_allclose(found, wanted, rtol=1e-5 if what == "first step" else 1e-4)

    @numbers.DEVICE_COUNTS
    @pytest.mark.parametrize("model", ["dropmax", "mc_dropout"])
    def test_predict_the_same(self, devices: int, model: str, mnist_folder: Path) -> None:
        """They predict after an epoch of training on them; mc_dropout predicts samples."""
        wanted = flat(on_devices(1, mnist_folder)[model]["logits"])
        found = flat(on_devices(devices, mnist_folder)[model]["logits"])
        np.testing.assert_allclose(found, wanted, atol=1e-4)

    @pytest.mark.slow
    def test_give_the_same_with_lenet(self, mnist_folder: Path) -> None:
        images = datasets.load(mnist_path=mnist_folder, train_per_class=30).train
        wanted = numbers.first_epoch("dropmax", "lenet", images)
        found = on_devices(7, mnist_folder)["lenet"]
        for name in ("first step", "first epoch"):
            np.testing.assert_allclose(flat(found[name]), flat(wanted[name]), rtol=1e-4)

    @numbers.DEVICE_COUNTS
    def test_errors_are_whole_numbers_of_examples(self, devices: int, mnist_folder: Path) -> None:
        errors = on_devices(devices, mnist_folder)["dropmax"]["first step"]["errors"]
        assert all(0 < error <= numbers.BATCH_SIZE and error == int(error) for error in errors)


class TestSeeds:
    @pytest.mark.parametrize("model", ["dropmax", "mc_dropout"])
    def test_alone_and_among_several_give_the_same(self, model: str, small_data: Dataset) -> None:
        setup = make_setup(dataclasses.replace(DROPMAX, model=model), 200)
        together = Steps(setup, small_data.train, (3, 5, 9)).epochs(2)[-1]
        alone = Steps(setup, small_data.train, (5,)).epochs(2)[-1]
        middle = jax.tree.map(lambda leaf: leaf[1:2], together)
        assert largest_difference(middle.params, alone.params) < 1e-5
        assert largest_difference(middle.totals, alone.totals) < 1e-5

    def test_differ_in_everything_that_is_random(self) -> None:
        keys = [training.seed_keys(seed) for seed in (0, 1, 2**31 - 1)]
        data_of_keys = [jax.random.key_data(key).tolist() for one in keys for key in one]
        assert len({tuple(values) for values in data_of_keys}) == 12

    def test_give_the_same_where_another_generator_is_the_default(
        self, small_data: Dataset
    ) -> None:
        setup = make_setup(DROPMAX, 200)
        expected = Steps(setup, small_data.train, (0,)).epochs(1)[-1]
        with jax.default_prng_impl("rbg"):
            found = Steps(setup, small_data.train, (0,)).epochs(1)[-1]
        assert largest_difference(found.params, expected.params) == 0

    def test_give_other_initial_parameters(self) -> None:
        setup = make_setup(DROPMAX, 200)
        params = programs.initial_states(setup, jnp.array([0, 1])).params
        for path, leaf in jax.tree_util.tree_leaves_with_path(params):
            is_bias = "bias" in jax.tree_util.keystr(path)
            assert bool(np.array_equal(leaf[0], leaf[1])) == is_bias
            assert not is_bias or not np.any(leaf)


class TestNoise:
    def test_keys_belong_to_places_in_the_global_batch(self) -> None:
        key = jax.random.key(7)
        whole = jax.random.key_data(training.example_keys(key, jnp.arange(8)))
        parts = [training.example_keys(key, first + jnp.arange(4)) for first in (0, 4)]
        np.testing.assert_array_equal(whole, np.concatenate(list(map(jax.random.key_data, parts))))
        assert len({tuple(row) for row in whole.tolist()}) == 8

    @pytest.mark.parametrize("model", ["dropmax", "mc_dropout"])
    def test_differs_between_equal_examples_and_between_steps(self, model: str) -> None:
        """The losses of equal images still differ at a rate of nearly nothing."""
        equal = Split(np.full((8, 28, 28), 200, np.uint8), np.zeros(8, np.int32))
        config = Config(model, network="tiny", batch_size=4, num_epochs=3, learning_rate=1e-30)
        steps = Steps(make_setup(config, 8), equal)
        losses: list[float] = []
        for step in range(1, 7):
            total = float(steps(step).totals["cross_entropy"][0])
            # Totals are sums over an epoch of two steps.
            losses.append(total - (losses[-1] if step % 2 == 0 else 0))
        assert len(set(losses)) == 6


def numpy_adam(
    params: dict[str, np.ndarray], gradients: list[dict[str, np.ndarray]], rates: list[float]
) -> dict[str, np.ndarray]:
    """Kingma and Ba 2015, algorithm 1, with L2 decay in the gradient of what is decayed."""
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    first = {name: np.zeros_like(value) for name, value in params.items()}
    second = {name: np.zeros_like(value) for name, value in params.items()}
    for count, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        for name, value in params.items():
            decay = 0.0 if "prior_logits" in name or "label_logits" in name else 1e-4
            total = gradient[name] + decay * value
            first[name] = 0.9 * first[name] + 0.1 * total
            second[name] = 0.999 * second[name] + 0.001 * total**2
            mean, square = first[name] / (1 - 0.9**count), second[name] / (1 - 0.999**count)
            params[name] = value - rate * mean / (np.sqrt(square) + 1e-8)
    return params


class TestOptimizer:
    def test_is_adam_with_decay_in_the_gradient(self) -> None:
        """Six steps on the network over the three rates, with gradients as small as the decay."""
        setup = make_setup(DROPMAX, 100)
        start = programs.initial_states(setup, jnp.arange(1)).params
        optimizer = make_optimizer("adam", "steps", 1e-2, 1e-4, 6)
        rng = np.random.default_rng(0)
        # Biases start at zero, where decay would not show.
        params = jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape), start)
        gradients = [
            jax.tree.map(lambda leaf: 1e-4 * rng.normal(size=leaf.shape), params) for _ in range(6)
        ]

        @jax.jit
        def step(params: Any, state: Any, gradient: Any) -> Any:
            updates, state = optimizer.update(gradient, state, params)
            return jax.tree.map(jnp.add, params, updates), state

        found, state = params, optimizer.init(params)
        for gradient in gradients:
            found, state = step(found, state, gradient)
        wanted = numpy_adam(
            by_name(params), list(map(by_name, gradients)), [1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4]
        )
        for name, value in by_name(found).items():
            np.testing.assert_allclose(value, wanted[name], atol=2e-6, err_msg=name)

    def test_step_of_training_is_that_of_the_mean_loss(self, small_data: Dataset) -> None:
        """One whole batch, so that its order does not matter to a softmax's mean loss."""
        config = Config("softmax", network="tiny", batch_size=200, num_epochs=3)
        setup = make_setup(config, 200)
        steps = Steps(setup, small_data.train)
        before = devices.unreplicate(steps.state).params
        params = jax.tree.map(lambda leaf: leaf[0], before)

        def mean_loss(params: Any) -> jax.Array:
            pixels = jnp.asarray(small_data.train.images, jnp.float32)[..., None] / 255
            log_probs = jax.nn.log_softmax(setup.network.apply(params, pixels).logits)  # type: ignore[union-attr]
            return -jnp.mean(log_probs[jnp.arange(200), small_data.train.labels])

        loss, gradient = jax.jit(jax.value_and_grad(mean_loss))(params)
        wanted = numpy_adam(by_name(params), [by_name(gradient)], [1e-3])
        state = steps(1)
        for name, value in by_name(state.params).items():
            np.testing.assert_allclose(value[0], wanted[name], atol=1e-5, err_msg=name)
        np.testing.assert_allclose(state.totals["loss"][0] / 200, loss, rtol=1e-5)

    @pytest.mark.parametrize("num_steps", [3, 6, 60, 2001])
    def test_rate_falls_tenfold_after_each_third(self, num_steps: int) -> None:
        rates = rates_of(num_steps)
        wanted = np.repeat([1.0, 0.1, 0.01], num_steps // 3)
        np.testing.assert_allclose(rates, wanted, rtol=1e-4)

    @pytest.mark.parametrize("num_steps", [1, 2, 4, 5, 7, 2000])
    def test_rate_of_steps_that_are_no_thirds_ends_at_a_hundredth(self, num_steps: int) -> None:
        rates = rates_of(num_steps)
        assert np.all(np.diff(rates) < 1e-4)
        np.testing.assert_allclose(rates[-1], 0.01, rtol=1e-4)
        counts = [np.isclose(rates, rate, rtol=1e-3).sum() for rate in (1.0, 0.1, 0.01)]
        assert all(abs(count - num_steps / 3) < 1 for count in counts)

    def test_rate_falls_along_a_cosine_or_stays(self) -> None:
        wanted = (1 + np.cos(np.pi * np.arange(60) / 60)) / 2
        np.testing.assert_allclose(rates_of(60, "cosine"), wanted, rtol=1e-3)
        np.testing.assert_allclose(rates_of(60, "constant"), 1, rtol=1e-4)

    def test_is_sgd_with_nesterovs_momentum(self) -> None:
        """The step is the gradient and 0.9 times the velocity, which includes it."""
        optimizer = make_optimizer("sgd", "constant", 0.1, 0.5, 1)
        value, velocity = 2.0, 0.0
        params = {"kernel": jnp.float32(value)}
        state = optimizer.init(params)
        for gradient in (1.0, -2.0, 0.5):
            updates, state = optimizer.update({"kernel": jnp.float32(gradient)}, state, params)
            params = {"kernel": params["kernel"] + updates["kernel"]}
            decayed = gradient + 0.5 * value
            velocity = decayed + 0.9 * velocity
            value -= 0.1 * (decayed + 0.9 * velocity)
            np.testing.assert_allclose(params["kernel"], value, rtol=1e-6)

    @pytest.mark.parametrize("network", ["lenet", "cnn"])
    def test_decays_all_but_the_mask_heads(self, network: str) -> None:
        setup = make_setup(Config("dropmax", network=network), 200)
        params = jax.eval_shape(lambda: training.initial_state(setup, jnp.int32(0)).params)
        decayed = {
            name for name, is_decayed in by_name(weight_decay_mask(params)).items() if is_decayed
        }
        others = {name for name in by_name(params) if name not in decayed}
        assert len(decayed) == 8
        assert {name.split("'")[5] for name in others} == {"prior_logits", "label_logits"}
        assert len(others) == 4


def by_name(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def rates_of(num_steps: int, schedule: str = "steps") -> np.ndarray:
    """The learning rate of each step, relative to the first.

    Adam's steps are as long as the rate if all gradients are the same.
    """
    optimizer = make_optimizer("adam", schedule, 1.0, 1e-4, num_steps)
    params, gradient = {"prior_logits": jnp.zeros(())}, {"prior_logits": jnp.ones(())}

    def step(state: Any, _: None) -> tuple[Any, jax.Array]:
        updates, state = optimizer.update(gradient, state, params)
        return state, -updates["prior_logits"]

    rates = jax.lax.scan(step, optimizer.init(params), None, num_steps)[1]
    return np.asarray(rates)


class TestNetworks:
    @pytest.mark.parametrize("network", ["lenet", "cnn"])
    def test_learn(self, network: str, small_data: Dataset) -> None:
        """A few steps on a few images lower the loss, and change every parameter."""
        images = some(small_data.train, 16)
        config = Config("dropmax", network=network, batch_size=8, num_epochs=12)
        steps = Steps(make_setup(config, 16), images)
        before = devices.unreplicate(steps.state).params
        states = steps.epochs(4)
        losses = [float(state.totals["loss"][0]) for state in states]
        assert losses[-1] < 0.9 * losses[0]
        for name, leaf in by_name(states[-1].params).items():
            assert not np.array_equal(leaf, by_name(before)[name]), name
            assert np.all(np.isfinite(leaf)), name

    def test_in_bfloat16_keep_float32_parameters_and_learn_the_same(
        self, small_data: Dataset
    ) -> None:
        """Losses differ by no more than the eight bits of bfloat16."""

        def after_two_epochs(precision: str) -> TrainState:
            config = dataclasses.replace(DROPMAX, precision=precision)
            return Steps(make_setup(config, 200), small_data.train).epochs(2)[-1]

        full, half = after_two_epochs("float32"), after_two_epochs("bfloat16")
        assert {leaf.dtype for leaf in jax.tree.leaves(half.params)} == {np.dtype(np.float32)}
        difference = largest_difference(half.totals, full.totals)
        assert 0 < difference < 0.05

    def test_have_the_heads_and_the_dropout_of_the_method(self) -> None:
        for name, method in METHODS.items():
            lenet = make_network(Config(name, network="lenet"))
            cnn = make_network(Config(name, network="cnn"))
            assert lenet.heads == cnn.heads == method.heads
            assert lenet.dropout_rate == method.dropout_rate
            assert cnn.dropout_rate == (method.dropout_rate or 0.5)

    @pytest.mark.parametrize("rate", [0.0, 0.25])
    def test_have_the_users_dropout(self, rate: float) -> None:
        for model in ("softmax", "mc_dropout"):
            for network in ("lenet", "cnn"):
                config = Config(model, network=network, dropout_rate=rate)
                assert make_network(config).dropout_rate == rate

    def test_pixels_are_from_zero_to_one(self) -> None:
        pixels = training.to_pixels(jnp.asarray([[[0, 51], [102, 255]]], jnp.uint8))
        assert pixels.shape == (1, 2, 2, 1)
        assert pixels.dtype == jnp.float32
        np.testing.assert_allclose(pixels.ravel(), [0, 0.2, 0.4, 1], rtol=1e-6)


# One of each kind that a trainer can tell apart: by heads, dropout and samples, what is fitted.
OF_EACH_KIND = {"softmax", "dropmax_prior", "dropmax", "mc_dropout", "temperature_scaling"}


class TestEveryMethod:
    @pytest.mark.parametrize(
        "model",
        [
            pytest.param(model, marks=[] if model in OF_EACH_KIND else pytest.mark.slow)
            for model in sorted(METHODS)
        ],
    )
    def test_trains_tests_and_tells_finite_numbers(
        self, model: str, small_data: Dataset, tmp_path: Path
    ) -> None:
        config = Config(
            model, network="tiny", batch_size=8, num_epochs=6, learning_rate=1e-2, seeds=(0, 1)
        )
        config = datasets.configured(config, small_data)
        summary = run.train(config, small_data, tmp_path, save_every=2)
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        # JSON has no NaN.
        entries = [json.loads(line, parse_constant=pytest.fail) for line in lines]
        losses = np.array([entry["train_loss"] for entry in entries])
        assert np.all(losses[-1] < losses[0] - 0.1)
        terms = entries[0].keys() - {
            "epoch",
            "seconds",
            "train_loss",
            "train_error_percent",
            "validation_error_percent",
        }
        for entry in entries:
            for name in terms:
                assert len(entry[name]) == 2
            if terms:
                total = sum(np.array(entry[name]) for name in terms)
                np.testing.assert_allclose(total, entry["train_loss"], rtol=1e-4, atol=1e-5)
        (tmp_path / "summary.json").unlink()
        assert run.test(config, small_data, tmp_path) == summary
        assert np.all(np.array(summary["test_error_percent"]) < 80)
        json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)

    @pytest.mark.parametrize("model", sorted(METHODS))
    def test_terms_are_told_by_name(self, model: str) -> None:
        setup = make_setup(Config(model, network="tiny"), 200)
        totals = programs.abstract_states(setup, (0, 1)).totals
        heads = Heads(**{name: jnp.zeros(10) for name in METHODS[model].heads})
        terms = jax.eval_shape(METHODS[model].terms, jax.random.key(0), heads, jnp.int32(3))
        assert set(totals) == {"loss", "errors", *terms}
        assert {leaf.shape for leaf in totals.values()} == {(2,)}


def test_hyperparameters_reach_the_loss(small_data: Dataset) -> None:
    losses = []
    for chosen in ({}, {"temperature": 0.1}, {"temperature": 5.0}):
        config = dataclasses.replace(DROPMAX, hyperparameters=chosen)
        steps = Steps(make_setup(config, 200), small_data.train)
        losses.append(float(steps(1).totals["cross_entropy"][0]))
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


@pytest.mark.parametrize("num_epochs", [1, 2])
def test_fewer_steps_than_three_are_enough(
    small_data: Dataset, tmp_path: Path, num_epochs: int
) -> None:
    config = Config("softmax", network="tiny", batch_size=200, num_epochs=num_epochs)
    summary = run.train(config, small_data, tmp_path)
    assert np.isfinite(summary["test_nll"]).all()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == num_epochs


def test_equal_setups_share_compiled_programs() -> None:
    config = Config("dropmax", network="tiny", hyperparameters={"temperature": 0.2})
    setup = make_setup(config, 200)
    assert make_setup(config, 200) == setup
    assert hash(make_setup(config, 200)) == hash(setup)
    assert programs.pmapped_train_steps(setup) is programs.pmapped_train_steps(
        make_setup(config, 200)
    )
    for change in (
        {"model": "dropmax_prior"},
        {"network": "cnn"},
        {"precision": "bfloat16"},
        {"hyperparameters": {"temperature": 0.3}},
        {"batch_size": 50},
        {"num_epochs": 3},
        {"learning_rate": 0.1},
    ):
        assert make_setup(dataclasses.replace(config, **change), 200) != setup
    assert make_setup(config, 300) != setup


@pytest.mark.parametrize("name", ["errors", "loss", "epoch", "train_loss"])
def test_a_term_cannot_have_the_name_of_a_metric(name: str) -> None:
    setup = make_setup(Config("softmax", network="tiny"), 200)
    method = dataclasses.replace(
        setup.method, loss_and_terms=SingleTerm(name, lambda key, heads, labels: jnp.zeros(()))
    )
    with pytest.raises(ValueError, match=f"a term of the loss cannot be called {name}"):
        programs.abstract_states(dataclasses.replace(setup, method=method), (0,))
