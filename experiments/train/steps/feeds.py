"""How training examples reach the devices: all at once and for good, or batch by batch.

A training set lies on the devices as uint8 if it takes a quarter of their memory at most. A larger
one stays with the host, which prepares the next batches while the devices train on the last ones.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array

from experiments.data.split import Split
from experiments.runtime import devices, machine
from experiments.train.steps import programs, training
from experiments.train.steps.setup import Setup
from experiments.train.steps.training import TrainState

_SHARE = 0.25
# Of batches that are prepared at a time.
_CHUNK_BYTES = 2**26


class Feed(Protocol):
    """Gives the training program its examples.

    Attributes:
        program: What `programs.pmapped_train_steps` returns.
        most_steps: How many steps a call of it can do.
    """

    program: Callable[..., TrainState]
    most_steps: int

    def inputs(self, start: int) -> tuple[Any, Any]:
        """The last arguments of `program` for a call that begins with step `start`."""
        ...

    def prepare(self, start: int) -> None:
        """Prepares the inputs of the next call, while the devices are busy with one."""
        ...


def make_feed(setup: Setup, split: Split, seeds: Array) -> Feed:
    """Puts the training set on the devices, or keeps it on the host if it is large."""
    if fits(split):
        return _Resident(setup, split)
    return _Streamed(setup, split, seeds)


def fits(split: Split) -> bool:
    """Whether each device may keep its share of a set."""
    return split.images.nbytes / jax.device_count() <= resident_bytes()


def resident_bytes() -> float:
    """How many bytes of images a device may keep."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    # A CPU's devices do not say, and share the machine's memory.
    memory = machine.memory_bytes() / jax.local_device_count()
    return _SHARE * float(statistics.get("bytes_limit", memory))


class _Resident:
    def __init__(self, setup: Setup, split: Split) -> None:
        self.program = programs.pmapped_train_steps(setup)
        self.most_steps = 1 if setup.unrolled else setup.steps_per_epoch
        self._inputs = programs.shard_examples(split)

    def inputs(self, start: int) -> tuple[Any, Any]:
        del start
        return self._inputs

    def prepare(self, start: int) -> None:
        pass


class _Streamed:
    def __init__(self, setup: Setup, split: Split, seeds: Array) -> None:
        self._setup, self._split, self._seeds = setup, split, seeds
        self.program = programs.pmapped_train_steps(setup, training.train_on_batches)
        step_bytes = len(seeds) * setup.batch_size * split.images[0].nbytes
        fitting = max(1, _CHUNK_BYTES // step_bytes)
        self.most_steps = 1 if setup.unrolled else min(setup.steps_per_epoch, fitting)
        self._order = functools.lru_cache(maxsize=2)(self._order_of_epoch)
        self._next: tuple[int, Any] | None = None

    def inputs(self, start: int) -> tuple[Any, Any]:
        self.prepare(start)
        assert self._next is not None
        images, labels = self._next[1]
        return images, labels

    def prepare(self, start: int) -> None:
        if self._next is None or self._next[0] != start:
            # `put` returns before the copy is there.
            self._next = start, devices.put(self._batches(start))

    def _order_of_epoch(self, epoch: int) -> np.ndarray:
        """The order of the examples for each seed, `[seeds, N]`."""
        return np.asarray(_orders(self._setup, self._seeds, epoch))

    def _batches(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Batches from a step on, `[local devices, seeds, steps, rows, ...]`; zeros fill up."""
        epoch, first = divmod(start, self._setup.steps_per_epoch)
        stop = min(first + self.most_steps, self._setup.steps_per_epoch)
        num_devices = jax.device_count()
        num_rows = -(-self._setup.batch_size // num_devices)
        shape = (jax.local_device_count(), len(self._seeds), self.most_steps, num_rows)
        images = np.zeros((*shape, *self._split.images.shape[1:]), np.uint8)
        labels = np.zeros(shape, np.int32)
        size = self._setup.batch_size
        for seed, order in enumerate(self._order(epoch)):
            for step in range(first, stop):
                batch = order[step * size : (step + 1) * size]
                rows = training.batch_rows(batch, num_devices).reshape(num_devices, num_rows)
                here = rows[devices.local()]
                images[:, seed, step - first] = self._split.images[here]
                labels[:, seed, step - first] = self._split.labels[here]
        return images, labels


@functools.partial(jax.jit, static_argnums=0)
def _orders(setup: Setup, seeds: Array, epoch: Array) -> Array:
    return jax.vmap(lambda seed: training.epoch_order(setup, seed, epoch))(seeds)
