"""The programs that accelerators get, exported for them on a CPU."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from dropmax_jax import Heads
from experiments.runtime.devices import AXIS
from experiments.train import evaluation
from experiments.train.config import Config
from experiments.train.steps import programs
from experiments.train.steps.setup import Setup, make_network, make_setup
from tests.experiments import normalised

SEEDS = (0, 1)
# 2 devices divide it, and 8 do not.
BATCH_SIZE = 12
NUM_TRAIN = 64

DEVICES_EACH = pytest.mark.parametrize(
    "devices", [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 8]
)

pytestmark = pytest.mark.parametrize("platform", ["cuda", "tpu"])

# The first three carry shardings; the last is JAX's random numbers on CUDA.
CUSTOM_CALLS = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "cu_threefry2x32_ffi"}


def setup_of(model: str = "dropmax", network: str = "lenet") -> Setup:
    return make_setup(Config(model, network=network, batch_size=BATCH_SIZE), NUM_TRAIN)


def array(*shape: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def on_each(devices: int, tree: Any) -> Any:
    """The tree as `training.replicate` puts it: `[devices, ...]`."""
    return jax.tree.map(lambda leaf: array(devices, *leaf.shape, dtype=leaf.dtype), tree)


def module_of(
    function: Callable[..., Any], platform: str, *arguments: Any, donated: tuple[int, ...] = ()
) -> str:
    jitted = jax.jit(function, donate_argnums=donated)
    return jax.export.export(jitted, platforms=[platform])(*arguments).mlir_module()


def sharded(
    function: Callable[..., Any], devices: int, in_axes: tuple[int | None, ...]
) -> Callable[..., Any]:
    """What pmap makes of a function, in a form that `jax.export` understands."""

    def on_device(*arguments: Any) -> Any:
        own = (
            argument if axis is None else jax.tree.map(lambda leaf: leaf[0], argument)
            for argument, axis in zip(arguments, in_axes, strict=True)
        )
        return jax.tree.map(lambda leaf: leaf[None], function(*own))

    split, same = PartitionSpec(AXIS), PartitionSpec()
    return jax.shard_map(
        on_device,
        # pmap's mesh is like this. Since jax 0.11.1, abstract meshes default to explicit axes.
        mesh=AbstractMesh((devices,), (AXIS,), axis_types=(AxisType.Auto,)),
        in_specs=tuple(same if axis is None else split for axis in in_axes),
        out_specs=split,
        check_vma=False,
    )


def train_module(setup: Setup, platform: str, devices: int) -> str:
    """A call of any number of steps of an epoch, as `pmapped_train_steps` compiles it."""
    state = on_each(devices, programs.abstract_states(setup, SEEDS))
    rows = -(-setup.num_train // devices)
    images = array(devices, rows, *setup.image_shape, dtype=jnp.uint8)
    labels = array(devices, rows)
    steps = programs.seeds_train_steps(setup, platform)
    return module_of(
        sharded(steps, devices, (0, None, None, None, 0, 0)),
        platform,
        *(state, array(len(SEEDS)), array(), array(), images, labels),
        donated=(0,),
    )


def predict_module(setup: Setup, platform: str, devices: int, num_samples: int = 0) -> str:
    params = on_each(devices, programs.abstract_states(setup, SEEDS).params)
    images = array(devices, 10, 8, *setup.image_shape, dtype=jnp.uint8)
    return module_of(
        sharded(evaluation.seeds_predict(setup.network, num_samples), devices, (0, None, None, 0)),
        platform,
        *(params, array(len(SEEDS)), array(), images),
    )


def check_stays_on_device(module: str) -> None:
    assert set(re.findall(r"custom_call @(\w+)", module)) <= CUSTOM_CALLS
    for word in ("callback", "infeed", "outfeed", "stablehlo.send", "stablehlo.recv"):
        assert word not in module
    assert not re.search(r"[<x]f64", module)


def count_convolutions(module: str) -> int:
    return module.count("stablehlo.convolution")


@DEVICES_EACH
@pytest.mark.parametrize("network", ["lenet", "cnn"])
def test_training(platform: str, devices: int, network: str) -> None:
    setup = setup_of(network=network)
    module = train_module(setup, platform, devices)
    check_stays_on_device(module)
    # There are two forwards, their weights' gradients, and the second one's input gradient. The
    # first one's input gradient may be there too, but nothing uses it.
    assert count_convolutions(module) in {5, 6}
    assert ("stablehlo.reduce_scatter" in module) == (devices > 1)
    # The loop over steps is around everything else.
    assert "stablehlo.while" in module
    (signature,) = re.findall(r"func.func public @main\((.*)\) ->", module)
    donated = re.findall(r"tf.aliasing_output|jax.buffer_donor", signature)
    assert len(donated) == len(jax.tree.leaves(programs.abstract_states(setup, SEEDS)))


@DEVICES_EACH
@pytest.mark.parametrize(("model", "num_samples"), [("dropmax", 0), ("mc_dropout", 2)])
def test_prediction(platform: str, devices: int, model: str, num_samples: int) -> None:
    module = predict_module(setup_of(model), platform, devices, num_samples)
    check_stays_on_device(module)
    assert count_convolutions(module) == 2
    assert devices == 1 or "stablehlo.all_gather" in module


@pytest.mark.parametrize(
    "network", ["blocks", *(pytest.param(f"resnet{n}", marks=pytest.mark.slow) for n in (18, 34))]
)
def test_residual_networks(platform: str, network: str) -> None:
    """On 8 devices in bfloat16, with crops and flips, two parts a batch, and batch statistics."""
    changes: dict[str, Any] = {"unrolled": False, "accumulate": 2, "batch_size": 16}
    setup = normalised.setup(**changes)
    if network == "blocks":
        setup = dataclasses.replace(setup, network=setup.network.clone(dtype=jnp.bfloat16))
    else:
        config = Config("dropmax", network=network, precision="bfloat16", image_shape=(32, 32, 3))
        setup = dataclasses.replace(
            setup, network=make_network(config), image_shape=config.image_shape
        )
    module = train_module(setup, platform, 8)
    check_stays_on_device(module)
    assert "stablehlo.while" in module
    lines = [line for line in module.splitlines() if "stablehlo.convolution" in line]
    assert lines
    assert not [line for line in lines if "f32" in line]
    # Means over the devices: of each normalisation, of the gradient and of the sums.
    assert module.count("stablehlo.all_reduce") > 5
    prediction = predict_module(setup, platform, 8)
    check_stays_on_device(prediction)
    assert "stablehlo.all_reduce" not in prediction


@pytest.mark.parametrize("model", ["dropmax", "mc_dropout"])
def test_evaluation(platform: str, model: str) -> None:
    setup, num_images = setup_of(model), 100
    samples = (setup.method.num_samples,) if setup.method.num_samples else ()
    shape = (len(SEEDS), *samples, num_images, 10)
    like: Any = {name: array(*shape, dtype=jnp.float32) for name in setup.method.heads}
    heads = Heads(**like)

    def evaluate(heads: Heads, labels: jax.Array) -> Any:
        return evaluation.measure(evaluation.log_probs(setup.method, heads), labels)

    check_stays_on_device(module_of(evaluate, platform, heads, array(num_images)))
