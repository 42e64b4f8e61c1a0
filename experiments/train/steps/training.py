"""Training as pure functions: one step, the steps of an epoch, and these over seeds and devices.

An epoch is one compiled program. Seeds are trained together, by `vmap` where there are cores for
all of them and in turn on CPU; a batch is spread over the devices by `pmap`. Every random number is
drawn from the seed, the step and the example's place in the global batch, so that the result
depends neither on the number of devices, nor on how many seeds train together, nor on where a run
was interrupted.

From the outside in: `pmapped_train_steps` over devices, `seeds_train_steps` over seeds,
`train_steps` over the steps of an epoch, `train_step` over the examples of a batch.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from experiments.runtime import devices
from experiments.train.steps.augmentation import augmented
from experiments.train.steps.setup import Setup

NO_STEP = np.iinfo(np.int32).max
# What `metrics.jsonl` holds beside the terms of the loss.
METRICS = (
    *("epoch", "seconds", "loss", "errors", "train_loss"),
    *("train_error_percent", "validation_error_percent"),
    *("train_nll", "test_nll", "test_error_percent"),
)


class TrainState(NamedTuple):
    """What training carries from step to step, for one seed.

    Attributes:
        params: The network's variables: parameters, and batch statistics if it has any.
        opt_state: The optimiser's state.
        totals: Sums over the examples seen in this epoch: the loss, its terms, and the errors
            of the network as it trains, with dropout on.
        first_bad_step: The first step whose loss was not finite, or `NO_STEP`.
    """

    params: Any
    opt_state: Any
    totals: dict[str, Array]
    first_bad_step: Array


def to_pixels(images: Array) -> Array:
    """uint8 images, `[B, H, W]` or `[B, H, W, 3]`, to float32 `[B, H, W, C]` in [0, 1].

    Rows of bytes, `[B, L]`, stay as they are.
    """
    if images.ndim == 2:
        return images
    if images.ndim == 3:
        images = images[..., None]
    return images.astype(jnp.float32) / 255


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
    images = to_pixels(jnp.zeros((1, *setup.image_shape), jnp.uint8))
    heads, params = setup.network.init_with_output(seed_keys(seed).initial, images)

    def terms(heads: Any) -> dict[str, Array]:
        key, labels = jax.random.key(0), jnp.zeros(1, jnp.int32)
        return setup.method.terms(key, heads, labels, **setup.hyperparameters)

    names = jax.eval_shape(terms, heads)
    if taken := set(names) & set(METRICS):
        raise ValueError(f"a term of the loss cannot be called {min(taken)}: that is a metric")
    totals = {name: jnp.zeros(()) for name in ("loss", *names, "errors")}
    opt_state = setup.optimizer.init(_parted(params)[0])
    return TrainState(params, opt_state, totals, jnp.int32(NO_STEP))


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
        stop: One past the last step; `start + 1` at most if the setup is unrolled.
        images: This device's share of the training images, uint8 `[N / devices, H, W]`, or with a
            last axis of 3 for colour.
        labels: Their labels.

    Returns:
        The state before step `stop`.
    """
    order = epoch_order(setup, seed, start // setup.steps_per_epoch)

    def batch_of(index: Array) -> tuple[Array, Array]:
        place = (index % setup.steps_per_epoch) * setup.batch_size
        rows = lax.dynamic_slice_in_dim(order, place, setup.batch_size)
        return _share_of_batch(rows, images, labels)

    return _steps(setup, state, seed, start, stop, batch_of)


def train_on_batches(
    setup: Setup,
    state: TrainState,
    seed: Array,
    start: Array,
    stop: Array,
    images: Array,
    labels: Array,
) -> TrainState:
    """`train_steps`, of batches from step `start` on that lie ready.

    Images are this device's share of them, uint8 `[steps, rows, H, W]`, or with a last axis of 3;
    labels are `[steps, rows]`.
    """

    def batch_of(index: Array) -> tuple[Array, Array]:
        return images[index - start], labels[index - start]

    return _steps(setup, state, seed, start, stop, batch_of)


def epoch_order(setup: Setup, seed: Array, epoch: Array) -> Array:
    """The order of the training examples in an epoch, `[N]`."""
    shuffle = seed_keys(seed).shuffle
    return jax.random.permutation(jax.random.fold_in(shuffle, epoch), setup.num_train)


def batch_rows(rows: Any, num_devices: int) -> Any:
    """Examples of a batch, `[B]`, with the first ones again where the devices do not divide it."""
    return rows[np.arange(-(-len(rows) // num_devices) * num_devices) % len(rows)]


def _steps(
    setup: Setup,
    state: TrainState,
    seed: Array,
    start: Array,
    stop: Array,
    batch_of: Callable[[Array], tuple[Array, Array]],
) -> TrainState:
    noise = seed_keys(seed).noise
    is_first = start % setup.steps_per_epoch == 0
    fresh = jax.tree.map(lambda total: jnp.where(is_first, 0, total), state.totals)

    def step(index: Array, state: TrainState) -> TrainState:
        return train_step(setup, state, jax.random.fold_in(noise, index), index, *batch_of(index))

    state = state._replace(totals=fresh)
    if not setup.unrolled:
        return lax.fori_loop(start, stop, step, state)
    done = step(start, state)
    return jax.tree.map(lambda new, old: jnp.where(start < stop, new, old), done, state)


def _share_of_batch(rows: Array, images: Array, labels: Array) -> tuple[Array, Array]:
    """This device's part of the batch of those rows; each device holds a share of the data.

    If the devices do not divide the batch, its first examples are repeated at its end.
    """
    num_devices = lax.axis_size(devices.AXIS)
    if num_devices == 1:
        return images[rows], labels[rows]
    rows = batch_rows(rows, num_devices)
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
    keys = example_keys(key, places % setup.batch_size)
    batch = Batch(images, labels, keys, places >= setup.batch_size)
    weights, statistics = _parted(state.params)
    if setup.accumulate == 1:
        gradient, sums, statistics = _gradient(setup, weights, statistics, batch)
    else:
        gradient, sums, statistics = _accumulated(setup, weights, statistics, batch)
    if lax.axis_size(devices.AXIS) > 1:  # With one, XLA would still copy the gradient.
        gradient, sums = lax.psum((gradient, sums), devices.AXIS)
    updates, opt_state = setup.optimizer.update(gradient, state.opt_state, weights)
    is_bad = ~jnp.isfinite(sums["loss"])
    return TrainState(
        {**optax.apply_updates(weights, updates), **statistics},
        opt_state,
        {name: total + sums[name] for name, total in state.totals.items()},
        jnp.where(is_bad, jnp.minimum(state.first_bad_step, index), state.first_bad_step),
    )


class Batch(NamedTuple):
    """Examples of a step; `keys` has one each, and `is_repeated` says which do not count."""

    images: Array
    labels: Array
    keys: Array
    is_repeated: Array


def _parted(variables: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A network's variables: what the optimiser trains, and batch statistics."""
    weights = {name: value for name, value in variables.items() if name != "batch_stats"}
    return weights, {name: variables[name] for name in variables if name not in weights}


def _gradient(
    setup: Setup, weights: Any, statistics: Any, batch: Batch
) -> tuple[Any, dict[str, Array], Any]:
    """The gradient of the mean loss, sums over the examples, and the new batch statistics."""
    keys = jax.vmap(jax.random.split)(batch.keys)
    dropout_keys, mask_keys = keys[:, 0], keys[:, 1]
    images = augmented(setup.augmentation, batch.keys, batch.images)

    def loss(weights: Any) -> tuple[Array, tuple[dict[str, Array], Any]]:
        heads: Any
        if statistics:
            heads, new = setup.network.apply(
                {**weights, **statistics}, to_pixels(images), dropout_keys, mutable=["batch_stats"]
            )
        else:
            heads, new = setup.network.apply(weights, to_pixels(images), dropout_keys), {}
        loss_and_terms = functools.partial(setup.method.loss_and_terms, **setup.hyperparameters)
        losses, terms = jax.vmap(loss_and_terms)(mask_keys, heads, batch.labels)
        errors = jnp.argmax(setup.method.log_probs(heads), -1) != batch.labels
        named = {**terms, "loss": losses, "errors": errors}
        sums = {name: jnp.sum(value, where=~batch.is_repeated) for name, value in named.items()}
        return sums["loss"] / setup.batch_size, (sums, new)

    gradient, (sums, new) = jax.grad(loss, has_aux=True)(weights)
    return gradient, sums, new


def _accumulated(
    setup: Setup, weights: Any, statistics: Any, batch: Batch
) -> tuple[Any, dict[str, Array], Any]:
    """`_gradient`, of parts of the batch one after another."""
    parts = jax.tree.map(lambda array: array.reshape(setup.accumulate, -1, *array.shape[1:]), batch)
    of_part = functools.partial(_gradient, setup, weights)
    first = jax.tree.map(lambda array: array[0], parts)
    total = of_part(statistics, first)
    rest = jax.tree.map(lambda array: array[1:], parts)

    def add(total: Any, part: Batch) -> tuple[Any, None]:
        gradient, sums, statistics = of_part(total[2], part)
        return (*jax.tree.map(jnp.add, total[:2], (gradient, sums)), statistics), None

    if not setup.unrolled:
        total, _ = lax.scan(add, total, rest)
        return total
    for number in range(setup.accumulate - 1):
        total, _ = add(total, jax.tree.map(lambda array, i=number: array[i], rest))
    return total
