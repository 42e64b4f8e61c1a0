"""The time of a residual network's training step, by this project and by plain Flax and optax."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.data.split import Split
from experiments.runtime import devices
from experiments.train.config import Config
from experiments.train.steps import programs
from experiments.train.steps.setup import make_setup

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
NUM_CLASSES = 100
_SHAPE = (32, 32, 3)
_LEARNING_RATE, _DECAY, _MOMENTUM = 0.1, 5e-4, 0.9

Steps = Callable[[int], None]
"""Takes this many training steps, and waits for the last."""


class PlainResNet(nn.Module):
    """The same network as Flax's examples write it, with a softmax's logits."""

    blocks: tuple[int, ...]
    dtype: Any

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps `[B, 32, 32, 3]` to `[B, NUM_CLASSES]`."""
        conv = functools.partial(nn.Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(
            nn.BatchNorm, use_running_average=False, momentum=0.9, dtype=self.dtype
        )
        x = nn.relu(norm()(conv(64, (3, 3))(images)))
        for stage, count in enumerate(self.blocks):
            for block in range(count):
                width, stride = 64 * 2**stage, 2 if stage and not block else 1
                y = nn.relu(norm()(conv(width, (3, 3), stride)(x)))
                y = norm()(conv(width, (3, 3))(y))
                x = x if x.shape == y.shape else norm()(conv(width, (1, 1), stride)(x))
                x = nn.relu(x + y)
        logits: Array = nn.Dense(NUM_CLASSES)(jnp.mean(x, (1, 2)))
        return logits


def measure(
    network: str, precision: str, batch_size: int, rounds: int, seconds: float
) -> dict[str, Any]:
    """Measures both trainers, and ours with DropMax, in turn.

    Returns:
        `seconds_a_step`, a value for each round, by trainer; `flops_a_step` as XLA counts them in
        plain Flax's program before it is optimised, None if it does not say; `parameters`, of plain
        Flax's network.
    """
    images = _images(64 * batch_size)
    plain, flops, parameters = _plain(network, precision, batch_size, images)
    trainers = {
        "plain": plain,
        "softmax": _ours("softmax", network, precision, batch_size, images),
        "dropmax": _ours("dropmax", network, precision, batch_size, images),
    }
    found: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(rounds):
        for name, steps in trainers.items():
            found[name].append(_seconds_a_step(steps, seconds))
    return {
        "network": network,
        "precision": precision,
        "seconds_a_step": found,
        "flops_a_step": flops,
        "parameters": parameters,
    }


def _seconds_a_step(steps: Steps, seconds: float) -> float:
    start = time.perf_counter()
    steps(1)
    # As many as fill the turn, in one call where the program can.
    count = max(1, math.floor(seconds / (time.perf_counter() - start)) - 1)
    start = time.perf_counter()
    steps(count)
    return (time.perf_counter() - start) / count


def _images(count: int) -> Split:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, *_SHAPE), np.uint8)
    return Split(pixels, rng.integers(0, NUM_CLASSES, count, np.int32))


def _ours(model: str, network: str, precision: str, batch_size: int, images: Split) -> Steps:
    config = Config(
        model,
        network=network,
        precision=precision,
        batch_size=batch_size,
        optimizer="sgd",
        schedule="constant",
        learning_rate=_LEARNING_RATE,
        weight_decay=_DECAY,
        image_shape=_SHAPE,
        class_names=tuple(map(str, range(NUM_CLASSES))),
    )
    setup = make_setup(config, len(images.labels))
    seeds = jnp.zeros(1, jnp.int32)
    state = devices.replicate(programs.initial_states(setup, seeds))
    data = programs.shard_examples(images)
    program = programs.pmapped_train_steps(setup)
    step = 0

    def run(count: int) -> None:
        nonlocal state, step
        last = step + count
        while step < last:
            epoch_end = (step // setup.steps_per_epoch + 1) * setup.steps_per_epoch
            stop = min(last, epoch_end, step + 1 if setup.unrolled else last)
            state = program(state, seeds, step, stop, *data)
            step = stop
        jax.block_until_ready(state)

    run(1)
    return run


def _plain(
    network: str, precision: str, batch_size: int, images: Split
) -> tuple[Steps, float | None, int]:
    model = PlainResNet(BLOCKS[network], jnp.dtype(precision))
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *_SHAPE)))
    optimizer = optax.chain(
        optax.add_decayed_weights(_DECAY), optax.sgd(_LEARNING_RATE, _MOMENTUM, nesterov=True)
    )
    params, statistics = variables["params"], variables["batch_stats"]
    pixels, labels = jnp.asarray(images.images), jnp.asarray(images.labels)
    # The whole set lies on the device, and a batch is a slice of it.
    num_batches = len(labels) // batch_size

    def step(carry: Any, pixels: Array, labels: Array, place: Array) -> Any:
        params, statistics, opt_state = carry
        batch = jax.lax.dynamic_slice_in_dim(pixels, place * batch_size, batch_size)
        targets = jax.lax.dynamic_slice_in_dim(labels, place * batch_size, batch_size)

        def loss(params: Any) -> tuple[Array, Any]:
            logits, new = model.apply(
                {"params": params, "batch_stats": statistics},
                batch.astype(jnp.float32) / 255,
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
            return losses.mean(), new["batch_stats"]

        gradient, statistics = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), statistics, opt_state

    carry = params, statistics, optimizer.init(params)
    arguments = carry, pixels, labels, jnp.int32(0)
    lowered = jax.jit(step, donate_argnums=0).lower(*arguments)
    compiled = lowered.compile()
    # Not of the compiled program, whose convolutions are a GPU library's and not counted.
    costs = lowered.cost_analysis() or {}
    done = 0

    def run(count: int) -> None:
        nonlocal carry, done
        for _ in range(count):
            carry = compiled(carry, pixels, labels, jnp.int32(done % num_batches))
            done += 1
        jax.block_until_ready(carry)

    run(1)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    return run, costs.get("flops"), parameters
