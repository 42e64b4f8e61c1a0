"""Training on colour images: batch statistics, augmentation, accumulation, streams."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.cli.stopping import Stopped
from experiments.data import datasets
from experiments.data.datasets import Dataset
from experiments.data.split import Split
from experiments.networks import NETWORKS
from experiments.networks._resnet import ResNet
from experiments.runtime import devices
from experiments.train import checks, run
from experiments.train.config import Config
from experiments.train.steps import feeds, programs, training
from experiments.train.steps.augmentation import augmented
from experiments.train.steps.setup import make_setup
from tests.experiments import normalised
from tests.experiments.conftest import MakeConfig
from tests.experiments.numbers import flat
from tests.experiments.results import numbers_of
from tests.experiments.stopping import stopping_at_look
from tests.experiments.tiny import largest_difference


@pytest.fixture(scope="module")
def one_device() -> dict[str, Any]:
    return normalised.numbers_here()


class TestBatchStatistics:
    @pytest.mark.parametrize(
        "count", [2, *(pytest.param(count, marks=pytest.mark.slow) for count in (4, 8))]
    )
    def test_are_those_of_the_whole_batch(self, one_device: dict[str, Any], count: int) -> None:
        found = normalised.on_devices(count)
        for name in ("statistics", "totals", "logits"):
            np.testing.assert_allclose(flat(found[name]), flat(one_device[name]), atol=1e-4)

    def test_are_running_means(self) -> None:
        """After one step: 0.9 times 0, and 0.1 times the mean over the batch."""
        setup = dataclasses.replace(normalised.setup(), augmentation="none")
        state = normalised.trained(setup, num_steps=1)
        order = jax.jit(training.epoch_order, static_argnums=0)
        rows = order(setup, jnp.int32(0), jnp.int32(0))[: normalised.BATCH_SIZE]
        pixels = training.to_pixels(jnp.asarray(normalised.images().images)[rows])
        start = programs.initial_states(setup, jnp.arange(1)).params
        kernel = start["params"]["Conv_0"]["kernel"][0]
        outputs = jax.lax.conv_general_dilated(
            pixels, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        found = state.params["batch_stats"]["BatchNorm_0"]["mean"][0]
        np.testing.assert_allclose(found, 0.1 * outputs.mean((0, 1, 2)), atol=1e-6)

    def test_the_optimiser_leaves_them_alone(self) -> None:
        state = programs.abstract_states(normalised.setup(), (0,))
        assert set(state.params) == {"params", "batch_stats"}
        names = {jax.tree_util.keystr(path) for path, _ in _leaves(state.opt_state)}
        assert not any("batch_stats" in name for name in names)

    def test_stopped_and_resumed_give_the_same_bits(
        self,
        small_data: Dataset,
        small_config: MakeConfig,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(NETWORKS, "tiny", functools.partial(ResNet, blocks=(1,), width=8))
        config = small_config("dropmax", batch_size=40, num_epochs=2, augmentation="crop_flip")
        run.train(config, small_data, tmp_path / "whole")
        for look in (3, 2, 4):
            with stopping_at_look(monkeypatch, look), pytest.raises(Stopped):
                run.train(config, small_data, tmp_path / "parts", resume=True)
        run.train(config, small_data, tmp_path / "parts", resume=True)
        whole, parts = (
            numbers_of(tmp_path / name, config, small_data) for name in ("whole", "parts")
        )
        assert whole == parts

    def test_devices_must_divide_the_batch(
        self, small_data: Dataset, small_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = dataclasses.replace(small_config("dropmax", batch_size=10), network="resnet18")
        monkeypatch.setattr(jax, "device_count", lambda: 8)
        with pytest.raises(UserError, match="divide it: pass --batch_size=16"):
            run.check_missing(config, small_data, Path("none"))


def _leaves(tree: Any) -> list[Any]:
    leaves: list[Any] = jax.tree_util.tree_leaves_with_path(tree)
    return leaves


class TestAugmentation:
    KEYS = jax.random.split(jax.random.key(0), 40)

    @pytest.mark.parametrize("shape", [(16, 24), (16, 24, 3)])
    def test_crops_are_shifts_with_zeros_outside(self, shape: tuple[int, ...]) -> None:
        image = np.random.default_rng(0).integers(1, 256, shape, np.uint8)
        padded = np.pad(image, [(2, 2), (3, 3)] + [(0, 0)] * (len(shape) - 2))
        possible = {
            padded[top : top + 16, left : left + 24].tobytes()
            for top in range(5)
            for left in range(7)
        }
        images = jnp.broadcast_to(image, (40, *shape))
        found = {one.tobytes() for one in np.asarray(augmented("crop", self.KEYS, images))}
        assert found <= possible
        assert len(found) > 15

    def test_half_of_the_images_are_mirrored(self) -> None:
        image = jnp.zeros((16, 16), jnp.uint8).at[8, 3].set(255)
        keys = jax.random.split(jax.random.key(1), 1000)
        images = jnp.broadcast_to(image, (1000, 16, 16))
        columns = jnp.argmax(augmented("crop_flip", keys, images).max(1), -1)
        assert abs(float(jnp.mean(columns > 7)) - 0.5) < 0.05

    @pytest.mark.parametrize("name", ["none", "crop", "crop_flip"])
    def test_depends_on_the_key_alone(self, name: str) -> None:
        rng = np.random.default_rng(0)
        images = jnp.asarray(rng.integers(0, 256, (40, 16, 16, 3), np.uint8))
        together = augmented(name, self.KEYS, images)
        np.testing.assert_array_equal(together[5:9], augmented(name, self.KEYS[5:9], images[5:9]))
        assert (together.shape, together.dtype) == (images.shape, images.dtype)


class TestAccumulation:
    @pytest.mark.parametrize("network", ["tiny", pytest.param("lenet", marks=pytest.mark.slow)])
    @pytest.mark.parametrize("parts", [2, 5])
    def test_gives_the_step_of_the_whole_batch(
        self, small_data: Dataset, network: str, parts: int
    ) -> None:
        # Adam would take a whole step for a gradient that is nothing but rounding.
        config = Config("dropmax", network=network, batch_size=20, optimizer="sgd")
        states = []
        for accumulate in (1, parts):
            setup = make_setup(dataclasses.replace(config, accumulate=accumulate), 200)
            seeds = jnp.arange(1)
            data = programs.shard_examples(small_data.train)
            state = devices.replicate(programs.initial_states(setup, seeds))
            states.append(programs.pmapped_train_steps(setup)(state, seeds, 0, 2, *data))
        one, other = (devices.unreplicate(state) for state in states)
        assert largest_difference(one.totals, other.totals) < 1e-5
        assert largest_difference(one.params, other.params) < 1e-5

    def test_normalises_each_part(self) -> None:
        """Two parts move the running mean twice."""
        setup = dataclasses.replace(normalised.setup(), accumulate=2, augmentation="none")
        state = normalised.trained(setup, num_steps=1)
        for loss in state.totals["loss"]:
            assert np.isfinite(loss)
        setup = dataclasses.replace(setup, accumulate=1)
        whole = normalised.trained(setup, num_steps=1)
        mean = state.params["batch_stats"]["BatchNorm_0"]["mean"]
        # 1 - 0.9² of it and not 0.1; the two parts' means average to the batch's nearly.
        ratio = mean / whole.params["batch_stats"]["BatchNorm_0"]["mean"]
        assert abs(np.median(ratio) - 1.9) < 0.1

    def test_must_divide_each_devices_share(
        self, small_data: Dataset, small_config: MakeConfig
    ) -> None:
        config = small_config("dropmax", batch_size=20, accumulate=3)
        with pytest.raises(UserError, match="--accumulate=3 does not divide the 20 examples"):
            run.check_missing(config, small_data, Path("none"))


@pytest.fixture(scope="module")
def config(small_config: MakeConfig) -> Config:
    return small_config("dropmax", batch_size=8, num_epochs=2, seeds=(0, 1))


@pytest.fixture(scope="module")
def wanted(
    config: Config, small_data: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The summary of a run whose training set lies on the devices."""
    return run.train(config, small_data, tmp_path_factory.mktemp("streams") / "resident")


class TestStreams:
    """A training set that is too large for the devices is trained on as if it were there."""

    @pytest.mark.parametrize("chunk_bytes", [1, 50_000, 2**26])
    def test_give_the_same_run(
        self,
        config: Config,
        wanted: dict[str, Any],
        small_data: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        chunk_bytes: int,
    ) -> None:
        monkeypatch.setattr(feeds, "resident_bytes", lambda: 0)
        monkeypatch.setattr(feeds, "_CHUNK_BYTES", chunk_bytes)
        found = run.train(config, small_data, tmp_path / "streamed")
        for name in ("test_error_percent", "test_nll", "test_brier"):
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5)

    def test_of_a_network_that_is_slow_in_loops(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And the same for each seed alone."""
        alone = [normalised.trained(normalised.setup(), 4, (seed,)).params for seed in (0, 1)]
        monkeypatch.setattr(feeds, "resident_bytes", lambda: 0)
        found = normalised.trained(normalised.setup(), 4, (0, 1)).params
        for seed, wanted in enumerate(alone):
            own = jax.tree.map(lambda leaf, seed=seed: leaf[seed : seed + 1], found)
            assert largest_difference(own, wanted) < 1e-5

    def test_small_sets_lie_on_the_devices(self) -> None:
        assert feeds.resident_bytes() > 1e6


class TestNetworks:
    @pytest.mark.parametrize("network", sorted({*NETWORKS} - {"text"}))
    @pytest.mark.parametrize("shape", [(17, 23), (32, 32, 3)])
    def test_take_images_of_any_size(self, network: str, shape: tuple[int, ...]) -> None:
        config = Config("dropmax", network=network, image_shape=shape, class_names=("a", "b", "c"))
        setup = make_setup(config, 100)
        params = jax.eval_shape(lambda: training.initial_state(setup, jnp.int32(0)).params)
        pixels = jax.ShapeDtypeStruct((5, *shape[:2], (*shape, 1)[2]), jnp.float32)
        heads: Any = jax.eval_shape(
            lambda params, pixels: setup.network.apply(params, pixels), params, pixels
        )
        assert heads.logits.shape == heads.prior_logits.shape == (5, 3)

    @pytest.mark.parametrize(("network", "count"), [("resnet18", 20), ("resnet34", 36)])
    def test_resnets_have_as_many_layers_as_their_names_say(self, network: str, count: int) -> None:
        """Convolutions, three of them in shortcuts, and the heads."""
        setup = make_setup(Config("softmax", network=network, image_shape=(32, 32, 3)), 9)
        params = jax.eval_shape(lambda: training.initial_state(setup, jnp.int32(0)).params)
        kernels = [path for path, _ in _leaves(params["params"]) if "kernel" in str(path[-1])]
        assert len(kernels) == count + 1
        millions = sum(leaf.size for _, leaf in _leaves(params["params"])) / 1e6
        assert round(millions, 1) == {"resnet18": 11.2, "resnet34": 21.3}[network]

    def test_resnets_compute_in_bfloat16(self) -> None:
        network = ResNet(num_classes=3, blocks=(1,), width=8, dtype=jnp.bfloat16)
        pixels = jnp.ones((2, 8, 8, 3))
        variables = jax.eval_shape(network.init, jax.random.key(0), pixels)
        assert {leaf.dtype for _, leaf in _leaves(variables)} == {jnp.dtype(jnp.float32)}
        heads: Any = jax.eval_shape(network.apply, variables, pixels)
        assert heads.logits.dtype == jnp.float32
        module = str(jax.jit(network.apply).lower(variables, pixels).as_text())
        assert "stablehlo.convolution" in module
        assert not [line for line in module.splitlines() if "convolution" in line and "f32" in line]

    @pytest.mark.parametrize("network", ["lenet", "cnn"])
    def test_too_small_images_are_refused(
        self, network: str, small_data: Dataset, small_config: MakeConfig
    ) -> None:
        own = dataclasses.replace(small_config("softmax"), network=network, image_shape=(3, 3))
        with pytest.raises(
            UserError, match=f"--network={network}: images must have .* but have 3x3"
        ):
            run.check_missing(own, small_data, Path("none"))


@pytest.mark.parametrize(
    ("num_devices", "batch_size", "per_class", "advice"),
    [
        (4, 11, None, "examples: lower the batch size"),
        (4, 11, 5, "examples: raise --train_per_class, or lower the batch size"),
        (4, 5, None, "divide it: pass --batch_size=8"),
        (4, 10, None, "divide it: pass --batch_size=8"),
        (16, 10, None, "divide it: use fewer devices, or more examples"),
    ],
)
def test_advice_on_the_batch_size_can_be_followed(
    monkeypatch: pytest.MonkeyPatch,
    num_devices: int,
    batch_size: int,
    per_class: int | None,
    advice: str,
) -> None:
    split = Split(np.zeros((10, 32, 32, 3), np.uint8), np.arange(10, dtype=np.int32))
    data = Dataset("folder:ten", split, split, split, "")
    config = Config(network="resnet18", batch_size=batch_size, train_per_class=per_class)
    monkeypatch.setattr(jax, "device_count", lambda: num_devices)
    with pytest.raises(UserError, match=f"{advice}$"):
        checks.check_sizes(datasets.configured(config, data), data)
