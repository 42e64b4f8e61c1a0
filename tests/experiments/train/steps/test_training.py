import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data import datasets
from experiments.data.datasets import Dataset
from experiments.data.split import Split
from experiments.train import run
from experiments.train.config import Config
from experiments.train.steps import programs, training
from experiments.train.steps.setup import make_setup
from tests.experiments import numbers, tiny
from tests.experiments.numbers import flat, on_devices
from tests.experiments.tiny import DROPMAX, Steps, largest_difference, seen


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


@pytest.mark.parametrize("num_epochs", [1, 2])
def test_fewer_steps_than_three_are_enough(
    small_data: Dataset, tmp_path: Path, num_epochs: int
) -> None:
    config = Config("softmax", network="tiny", batch_size=200, num_epochs=num_epochs)
    summary = run.train(config, small_data, tmp_path)
    assert np.isfinite(summary["test_nll"]).all()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == num_epochs
