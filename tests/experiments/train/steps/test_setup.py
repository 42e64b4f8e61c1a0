import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import METHODS
from experiments.data.datasets import Dataset
from experiments.data.split import Split
from experiments.runtime import devices
from experiments.train.config import Config
from experiments.train.steps import programs, training
from experiments.train.steps.setup import make_network, make_setup
from experiments.train.steps.training import TrainState
from tests.experiments.tiny import DROPMAX, Steps, by_name, largest_difference


def some(split: Split, count: int) -> Split:
    return Split(split.images[:count], split.labels[:count])


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
