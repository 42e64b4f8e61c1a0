"""Training over seeds and devices: the programs that are compiled, and what they are given."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array, lax

from experiments.data.split import Split
from experiments.runtime import devices
from experiments.train.steps.setup import Setup
from experiments.train.steps.training import (
    TrainState,
    initial_state,
    train_on_batches,
    train_steps,
)


def initial_states(setup: Setup, seeds: Array) -> TrainState:
    """The initial state of every seed: leaves `[seeds, ...]`."""
    return _initial_states()(setup, seeds)


@functools.cache
def _initial_states() -> Any:
    # At XLA's usual level, the CPU's compiler takes three seconds for it and gains nothing.
    options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None

    @functools.partial(jax.jit, static_argnums=0, compiler_options=options)
    def states(setup: Setup, seeds: Array) -> TrainState:
        return jax.vmap(lambda seed: initial_state(setup, seed))(seeds)

    return states


def abstract_states(setup: Setup, seeds: Sequence[int]) -> TrainState:
    """The shapes and types of `initial_states`."""
    abstract: TrainState = _initial_states().eval_shape(setup, np.asarray(seeds, np.int32))
    return abstract


@functools.lru_cache(maxsize=8)
def pmapped_train_steps(
    setup: Setup, steps: Callable[..., TrainState] = train_steps
) -> Callable[..., TrainState]:
    """`train_steps` over seeds and devices.

    Args:
        setup: What to train.
        steps: Or `train_on_batches`.

    Returns:
        A pmapped function of the state (leaves `[devices, seeds, ...]`, donated), the seeds
        `[seeds]`, `start`, `stop`, and images and labels: `[devices, N / devices, ...]`, or batches
        `[devices, seeds, ...]`.
    """
    mapped = seeds_train_steps(setup, jax.default_backend(), steps)
    return devices.pmap(mapped, in_axes=(0, None, None, None, 0, 0), donate_argnums=0)


def seeds_train_steps(
    setup: Setup, platform: str, steps: Callable[..., TrainState] = train_steps
) -> Callable[..., TrainState]:
    """`train_steps` over seeds: what `pmapped_train_steps` gives to every device."""
    own_batches = 0 if steps is train_on_batches else None

    def every_seed(
        state: TrainState, seeds: Array, start: Array, stop: Array, images: Array, labels: Array
    ) -> TrainState:
        def one_seed(state: TrainState, seed: Array, images: Array, labels: Array) -> TrainState:
            return steps(setup, state, seed, start, stop, images, labels)

        if platform != "cpu":
            in_axes = (0, 0, own_batches, own_batches)
            return jax.vmap(one_seed, in_axes)(state, seeds, images, labels)

        # One model keeps a CPU's cores busy, and its arrays stay in their caches.
        def in_turn(index: Any, state: TrainState) -> TrainState:
            batches = (images, labels) if own_batches is None else (images[index], labels[index])
            before = jax.tree.map(lambda leaf: leaf[index], state)
            trained = one_seed(before, seeds[index], *batches)
            return jax.tree.map(lambda leaf, new: leaf.at[index].set(new), state, trained)

        if not setup.unrolled:
            return lax.fori_loop(0, len(seeds), in_turn, state)
        for index in range(len(seeds)):
            state = in_turn(index, state)
        return state

    return every_seed


def shard_examples(split: Split) -> tuple[Array, Array]:
    """Spreads a set over the devices, once: images and labels `[local devices, rows, ...]`.

    Rows of zeros make up the number where it is not divisible; no step reads them.
    """
    num_devices = jax.device_count()
    num_rows = -(-len(split.labels) // num_devices)

    def spread(values: np.ndarray) -> np.ndarray:
        here = devices.local()
        mine = values[here.start * num_rows : here.stop * num_rows]
        shape = (jax.local_device_count(), num_rows, *values.shape[1:])
        padded = np.zeros(shape, values.dtype)
        padded.reshape(-1, *values.shape[1:])[: len(mine)] = mine
        return padded

    images, labels = devices.put((spread(split.images), spread(split.labels)))
    return images, labels
