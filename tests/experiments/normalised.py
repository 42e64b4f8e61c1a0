"""What a network with batch statistics has after two steps on this process's devices, as JSON."""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
import optax
from flax.core import FrozenDict

from dropmax_jax import METHODS
from experiments.data.split import Split
from experiments.networks._resnet import ResNet
from experiments.runtime import devices
from experiments.train import evaluation
from experiments.train.steps import feeds, programs, training
from experiments.train.steps.setup import Setup, loops
from tests.experiments.runner import numbers_on

BATCH_SIZE, NUM_TRAIN, SHAPE = 8, 24, (12, 9, 3)
# A single one, since setups are equal, and share programs, if their optimisers are the same.
_OPTIMIZER = optax.sgd(0.01)


def setup(**changes: Any) -> Setup:
    """Three classes of colour images, cropped and mirrored; a block with a shortcut of its own."""
    network = ResNet(
        num_classes=3,
        heads=METHODS["dropmax"].heads,
        dropout_rate=0.5,
        blocks=(0, 1),
        width=8,
        axis_name=devices.AXIS,
    )
    own = Setup(
        METHODS["dropmax"],
        network,
        _OPTIMIZER,
        FrozenDict(),
        BATCH_SIZE,
        NUM_TRAIN,
        image_shape=SHAPE,
        augmentation="crop_flip",
        unrolled=not loops(network),
    )
    return dataclasses.replace(own, **changes)


def images() -> Split:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (NUM_TRAIN, *SHAPE), np.uint8)
    return Split(pixels, np.arange(NUM_TRAIN, dtype=np.int32) % 3)


def trained(setup: Setup, num_steps: int = 2, seeds: tuple[int, ...] = (0,)) -> training.TrainState:
    """The state after some steps, `[seeds, ...]`."""
    numbers = jax.numpy.asarray(seeds)
    state = devices.replicate(programs.initial_states(setup, numbers))
    feed = feeds.make_feed(setup, images(), numbers)
    for step in range(num_steps):
        state = feed.program(state, numbers, step, step + 1, *feed.inputs(step))
    found: training.TrainState = devices.unreplicate(state)
    return found


def numbers_here() -> dict[str, Any]:
    own = setup()
    state = trained(own)
    spread = evaluation.shard_images(images(), own.network)
    predict = evaluation.predictor(own.network)
    heads = predict(devices.replicate(state.params), np.arange(1), spread)
    found = {
        "devices": jax.device_count(),
        "statistics": state.params["batch_stats"],
        "totals": state.totals,
        "logits": heads.logits,
    }
    plain: dict[str, Any] = jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), found)
    return plain


def on_devices(count: int) -> dict[str, Any]:
    """The numbers on `count` devices, in a process of its own."""
    return numbers_on(count, "tests.experiments.normalised")


if __name__ == "__main__":
    print(json.dumps(numbers_here()))
