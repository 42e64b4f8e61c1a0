"""Training as pure functions: one step, the steps of an epoch, and these over seeds and devices.

An epoch is one compiled program. Seeds are trained together, by `vmap` where there are cores for
all of them and in turn on CPU; a batch is spread over the devices by `pmap`. Every random number is
drawn from the seed, the step and the example's place in the global batch, so that the result
depends neither on the number of devices, nor on how many seeds train together, nor on where a run
was interrupted.

From the outside in: `pmapped_train_steps` over devices, `seeds_train_steps` over seeds,
`train_steps` over the steps of an epoch, `train_step` over the examples of a batch.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.core import FrozenDict
from jax import Array, lax

from dropmax_jax import METHODS, Method, weight_decay_mask
from experiments.data.split import NUM_CLASSES, Split
from experiments.networks import NETWORKS
from experiments.runtime import devices
from experiments.train.config import Config

WEIGHT_DECAY = 1e-4
NO_STEP = np.iinfo(np.int32).max
# What `metrics.jsonl` holds beside the terms of the loss.
METRICS = (
    *("epoch", "seconds", "loss", "errors", "train_loss"),
    *("train_error_percent", "validation_error_percent"),
)


class TrainState(NamedTuple):
    """What training carries from step to step, for one seed.

    Attributes:
        params: The network's parameters.
        opt_state: The optimiser's state.
        totals: Sums over the examples seen in this epoch: the loss, its terms, and the errors
            of the network as it trains, with dropout on.
        first_bad_step: The first step whose loss was not finite, or `NO_STEP`.
    """

    params: Any
    opt_state: Any
    totals: dict[str, Array]
    first_bad_step: Array


@dataclasses.dataclass(frozen=True)
class Setup:
    """The parts that a step is made of; compiled programs are kept by it."""

    method: Method
    network: nn.Module
    optimizer: optax.GradientTransformation
    hyperparameters: FrozenDict[str, float]
    batch_size: int
    num_train: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch; the examples that do not fill a batch wait for another epoch."""
        return self.num_train // self.batch_size


def make_setup(config: Config, num_train: int) -> Setup:
    """Builds the method, network and optimiser that a configuration names."""
    method = METHODS[config.model]
    network = make_network(config)
    num_steps = num_train // config.batch_size * config.num_epochs
    optimizer = make_optimizer(config.learning_rate, num_steps)
    hyperparameters: FrozenDict[str, float] = FrozenDict(config.hyperparameters)
    return Setup(method, network, optimizer, hyperparameters, config.batch_size, num_train)


def make_network(config: Config) -> nn.Module:
    """Builds the network with the heads, and the dropout, that the method asks for."""
    method = METHODS[config.model]
    network = NETWORKS[config.network](
        num_classes=NUM_CLASSES, heads=method.heads, dtype=jnp.dtype(config.precision)
    )
    if method.dropout_rate:
        network = network.clone(dropout_rate=method.dropout_rate)
    return network


@functools.lru_cache(maxsize=8)  # Two optimisers of the same arguments are not equal.
def make_optimizer(learning_rate: float, num_steps: int) -> optax.GradientTransformation:
    """The reference's: weight decay in the gradient, then Adam at a rate lowered twice tenfold.

    Args:
        learning_rate: Of the first third of the steps.
        num_steps: Of the whole training.

    Returns:
        An optax transformation; it decays every variable but those of the two mask heads.
    """
    # With fewer than three steps, both boundaries fall on one step, which then has both factors.
    scales: dict[int, float] = {}
    for boundary in (num_steps // 3, 2 * num_steps // 3):
        scales[boundary] = 0.1 * scales.get(boundary, 1.0)
    schedule = optax.piecewise_constant_schedule(learning_rate, scales)
    return optax.chain(
        optax.add_decayed_weights(WEIGHT_DECAY, mask=weight_decay_mask), optax.adam(schedule)
    )


def to_pixels(images: Array) -> Array:
    """uint8 images `[B, H, W]` to float32 `[B, H, W, 1]` in [0, 1]."""
    return images[..., None].astype(jnp.float32) / 255


class SeedKeys(NamedTuple):
    """The independent streams of random numbers of one seed."""

    initial: Array
    shuffle: Array
    noise: Array
    evaluation: Array


def seed_keys(seed: Array | int) -> SeedKeys:
    """Derives a seed's streams."""
    # Named, for JAX's default can be changed.
    key = jax.random.key(seed, impl="threefry2x32")
    return SeedKeys(*(jax.random.fold_in(key, stream) for stream in range(4)))


def example_keys(key: Array, places: Array) -> Array:
    """A key for each example, by its place in the global batch."""
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(places)


def initial_state(setup: Setup, seed: Array) -> TrainState:
    """The state before the first step."""
    images = jnp.zeros((1, 28, 28, 1))
    params = setup.network.init(seed_keys(seed).initial, images)

    def terms(params: Any) -> dict[str, Array]:
        heads: Any = setup.network.apply(params, images, None)
        key, labels = jax.random.key(0), jnp.zeros(1, jnp.int32)
        return setup.method.terms(key, heads, labels, **setup.hyperparameters)

    names = jax.eval_shape(terms, params)
    if taken := set(names) & set(METRICS):
        raise ValueError(f"a term of the loss cannot be called {min(taken)}: that is a metric")
    totals = {name: jnp.zeros(()) for name in ("loss", *names, "errors")}
    return TrainState(params, setup.optimizer.init(params), totals, jnp.int32(NO_STEP))


def train_steps(
    setup: Setup,
    state: TrainState,
    seed: Array,
    start: Array,
    stop: Array,
    images: Array,
    labels: Array,
) -> TrainState:
    """Steps `start` to `stop`, all of one epoch, of one seed; runs on every device.

    Args:
        setup: What to train.
        state: Before step `start`.
        seed: int32 scalar.
        start: The first step, counted from the beginning of training.
        stop: One past the last step.
        images: This device's share of the training images, uint8 `[N / devices, H, W]`.
        labels: Their labels.

    Returns:
        The state before step `stop`.
    """
    keys = seed_keys(seed)
    epoch, epoch_start = start // setup.steps_per_epoch, start % setup.steps_per_epoch
    order = jax.random.permutation(jax.random.fold_in(keys.shuffle, epoch), setup.num_train)
    fresh = jax.tree.map(lambda total: jnp.where(epoch_start == 0, 0, total), state.totals)

    def step(index: Array, state: TrainState) -> TrainState:
        place = (index % setup.steps_per_epoch) * setup.batch_size
        rows = lax.dynamic_slice_in_dim(order, place, setup.batch_size)
        batch = _share_of_batch(rows, images, labels)
        return train_step(setup, state, jax.random.fold_in(keys.noise, index), index, *batch)

    return lax.fori_loop(start, stop, step, state._replace(totals=fresh))


def _share_of_batch(rows: Array, images: Array, labels: Array) -> tuple[Array, Array]:
    """This device's part of the batch of those rows; each device holds a share of the data.

    If the devices do not divide the batch, its first examples are repeated at its end.
    """
    num_devices = lax.axis_size(devices.AXIS)
    if num_devices == 1:
        return images[rows], labels[rows]
    rows = rows[jnp.arange(-(-len(rows) // num_devices) * num_devices) % len(rows)]
    local = rows - lax.axis_index(devices.AXIS) * len(images)
    is_here = (local >= 0) & (local < len(images))

    def exchange(values: Array) -> Array:
        mine = values[jnp.clip(local, 0, len(images) - 1)]
        mine = jnp.where(is_here.reshape(-1, *[1] * (mine.ndim - 1)), mine, 0)
        return lax.psum_scatter(mine, devices.AXIS, tiled=True)

    return exchange(images), exchange(labels)


def train_step(
    setup: Setup, state: TrainState, key: Array, index: Array, images: Array, labels: Array
) -> TrainState:
    """One optimiser step on this device's share of a batch, as `_share_of_batch` gives it."""
    places = lax.axis_index(devices.AXIS) * len(labels) + jnp.arange(len(labels))
    # A repeated example has the key of the first one too: it is finite if that one is.
    keys = jax.vmap(jax.random.split)(example_keys(key, places % setup.batch_size))
    dropout_keys, mask_keys = keys[:, 0], keys[:, 1]
    is_repeated = places >= setup.batch_size

    def loss(params: Any) -> tuple[Array, dict[str, Array]]:
        heads: Any = setup.network.apply(params, to_pixels(images), dropout_keys)
        loss_and_terms = functools.partial(setup.method.loss_and_terms, **setup.hyperparameters)
        losses, terms = jax.vmap(loss_and_terms)(mask_keys, heads, labels)
        errors = jnp.argmax(setup.method.log_probs(heads), -1) != labels
        named = {**terms, "loss": losses, "errors": errors}
        sums = {name: jnp.sum(value, where=~is_repeated) for name, value in named.items()}
        return sums["loss"] / setup.batch_size, sums

    gradient, sums = jax.grad(loss, has_aux=True)(state.params)
    if lax.axis_size(devices.AXIS) > 1:  # With one, XLA would still copy the gradient.
        gradient, sums = lax.psum((gradient, sums), devices.AXIS)
    updates, opt_state = setup.optimizer.update(gradient, state.opt_state, state.params)
    is_bad = ~jnp.isfinite(sums["loss"])
    return TrainState(
        optax.apply_updates(state.params, updates),
        opt_state,
        {name: total + sums[name] for name, total in state.totals.items()},
        jnp.where(is_bad, jnp.minimum(state.first_bad_step, index), state.first_bad_step),
    )


# Over seeds and devices.


@functools.partial(jax.jit, static_argnums=0)
def initial_states(setup: Setup, seeds: Array) -> TrainState:
    """The initial state of every seed: leaves `[seeds, ...]`."""
    return jax.vmap(lambda seed: initial_state(setup, seed))(seeds)


def abstract_states(setup: Setup, seeds: Sequence[int]) -> TrainState:
    """The shapes and types of `initial_states`."""
    return jax.eval_shape(functools.partial(initial_states, setup), np.asarray(seeds, np.int32))


@functools.lru_cache(maxsize=8)
def pmapped_train_steps(setup: Setup) -> Callable[..., TrainState]:
    """`train_steps` over seeds and devices.

    Returns:
        A pmapped function of the state (leaves `[devices, seeds, ...]`, donated), the seeds
        `[seeds]`, `start`, `stop`, and images and labels `[devices, N / devices, ...]`.
    """
    steps = seeds_train_steps(setup, jax.default_backend())
    return devices.pmap(steps, in_axes=(0, None, None, None, 0, 0), donate_argnums=0)


def seeds_train_steps(setup: Setup, platform: str) -> Callable[..., TrainState]:
    """`train_steps` over seeds: what `pmapped_train_steps` gives to every device."""

    def steps(
        state: TrainState, seeds: Array, start: Array, stop: Array, images: Array, labels: Array
    ) -> TrainState:
        def one_seed(state: TrainState, seed: Array) -> TrainState:
            return train_steps(setup, state, seed, start, stop, images, labels)

        if platform != "cpu":
            return jax.vmap(one_seed)(state, seeds)

        # One model keeps a CPU's cores busy, and its arrays stay in their caches.
        def in_turn(index: Array, state: TrainState) -> TrainState:
            trained = one_seed(jax.tree.map(lambda leaf: leaf[index], state), seeds[index])
            return jax.tree.map(lambda leaf, new: leaf.at[index].set(new), state, trained)

        return lax.fori_loop(0, len(seeds), in_turn, state)

    return steps


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
