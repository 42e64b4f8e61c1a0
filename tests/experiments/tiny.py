"""A network that compiles at once, and setups that show what training does with its examples."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.core import FrozenDict
from jax import Array
from jax.typing import DTypeLike

from dropmax_jax import Heads, Method
from dropmax_jax.linen import DropMaxHeads
from experiments.data.split import Split
from experiments.networks._layers import DenseRelu, dropout
from experiments.runtime import devices
from experiments.train.config import Config
from experiments.train.steps import programs
from experiments.train.steps.setup import Setup
from experiments.train.steps.training import TrainState


class Tiny(nn.Module):
    """Average-pooling to 14x14 pixels, a dense layer of 32, the heads."""

    num_classes: int = 10
    heads: Sequence[str] = ("logits",)
    dropout_rate: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Array, dropout_key: Array | None = None) -> Heads:
        pixels = nn.avg_pool(images, (2, 2), (2, 2)).reshape(len(images), -1)
        features = dropout(DenseRelu(32, dtype=self.dtype)(pixels), dropout_key, self.dropout_rate)
        layer = DropMaxHeads(self.num_classes, self.heads, dtype=self.dtype, name="heads")
        heads: Heads = layer(features)
        return heads


class CountingNetwork:
    """Has one parameter per example, and gives them all and the number that the image encodes."""

    def __init__(self, num_train: int) -> None:
        self.num_train = num_train

    def init_with_output(self, key: Array, images: Array) -> tuple[Heads, dict[str, Array]]:
        params = {"times_seen": jnp.zeros(self.num_train)}
        return self.apply(params, images, None), params

    def apply(self, params: dict[str, Array], pixels: Array, keys: Array | None) -> Heads:
        logits = jnp.tile(params["times_seen"], (len(pixels), 1))
        numbers = jnp.round(pixels[:, 0, :2, 0] * 255) @ jnp.array([1.0, 256.0])
        return Heads(logits, numbers[:, None])


def _counting_loss_and_terms(
    key: Array, heads: Heads, number: Array
) -> tuple[Array, dict[str, Array]]:
    # Its gradient adds one to the example's own parameter; the batch's mean is undone below.
    seen = -heads.logits[number]
    assert heads.prior_logits is not None
    mismatches = jnp.where(heads.prior_logits[0] == number, 0.0, 1.0)
    return seen + mismatches, {"seen": seen, "mismatches": mismatches}


def counting_setup(num_train: int, batch_size: int) -> Setup:
    """A setup whose trained parameters say how often each example was seen.

    The examples are those of `numbered`, whose labels are their numbers.
    """
    method = Method(
        heads=("logits", "prior_logits"),
        loss_and_terms=_counting_loss_and_terms,
        predict=lambda heads: heads.logits,
    )
    network: Any = CountingNetwork(num_train)
    optimizer = optax.sgd(float(batch_size))
    return Setup(method, network, optimizer, FrozenDict(), batch_size, num_train)


def numbered(num_train: int) -> Split:
    images = np.zeros((num_train, 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(num_train) % 256
    images[:, 0, 1] = np.arange(num_train) // 256
    return Split(images, np.arange(num_train, dtype=np.int32))


# The tests that share it, and the number of seeds, share compiled programs.
DROPMAX = Config("dropmax", network="tiny", batch_size=8, num_epochs=2)


class Steps:
    """Trains a setup for some steps at a time, from the start."""

    def __init__(self, setup: Setup, data: Split, seeds: Sequence[int] = (0,)) -> None:
        self.setup = setup
        self.seeds = jnp.asarray(seeds, jnp.int32)
        self.data = programs.shard_examples(data)
        self.state = devices.replicate(programs.initial_states(setup, self.seeds))
        self.run = programs.pmapped_train_steps(setup)
        self.step = 0

    def __call__(self, stop: int) -> TrainState:
        """Goes on to a step of the same epoch; returns its state, with leaves `[seeds, ...]`."""
        self.state = self.run(self.state, self.seeds, self.step, stop, *self.data)
        self.step = stop
        state: TrainState = devices.unreplicate(self.state)
        return state

    def epochs(self, count: int) -> list[TrainState]:
        """The states after each of the next epochs."""
        return [self(self.step + self.setup.steps_per_epoch) for _ in range(count)]


def seen(state: TrainState, seed: int = 0) -> np.ndarray:
    """How often each example was seen, according to a state of a counting setup."""
    return np.asarray(state.params["times_seen"][seed]).round().astype(int)


def largest_difference(one: Any, other: Any) -> float:
    """The largest difference of two pytrees of arrays, relative to one plus the value's size."""
    differences = jax.tree.map(
        lambda a, b: float(np.max(np.abs(a - b) / (1 + np.abs(b)))), one, other
    )
    return max(jax.tree.leaves(differences))


def by_name(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
