"""Predictions of trained parameters, and their metrics."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from dropmax_jax import Heads, Method, metrics
from dropmax_jax.metrics import mean_log_probs
from experiments.data.split import Split
from experiments.runtime import devices
from experiments.train.steps.setup import Setup, loops
from experiments.train.steps.training import example_keys, seed_keys, to_pixels

# Images go through the network in parts of one shape, so that one program serves every set; a
# part goes in batches, whose activations fit into the caches. A set that is kept is predicted again
# and again, so that a small one has a smaller part of its own.
_PART = 1000
_BATCHES = 5


class EvaluationSet(NamedTuple):
    """Images spread over the devices, ready to be predicted again and again.

    Attributes:
        parts: uint8 `[devices, batches, rows, H, W]` each, or with a last axis of 3; zero images
            fill up the last.
        labels: int32 `[N]`, on the host.
    """

    parts: Iterable[ArrayLike]
    labels: np.ndarray


class Metrics(NamedTuple):
    """Metrics of predictions, `[seeds]` each."""

    error_percent: Array
    nll: Array
    ece_percent: Array
    brier: Array


Predictor = Callable[..., Any]


def shard_images(split: Split, network: nn.Module, keep: bool = True) -> EvaluationSet:
    """Spreads images over the local devices; every process predicts its own rows of each part.

    Args:
        split: The images.
        network: What is to predict them.
        keep: Whether they lie on the devices; else they go there with each prediction.
    """
    num_images, num_devices = len(split.images), jax.device_count()
    part = min(_PART, num_images) if keep else _PART
    num_rows = -(-part // (_BATCHES * num_devices))
    batches = _BATCHES if loops(network) else 1
    num_parts = -(-num_images // (num_rows * batches * num_devices))
    shape = (num_parts, num_devices, batches, num_rows)
    parts = _HostParts(split.images, np.arange(np.prod(shape)).reshape(shape)[:, devices.local()])
    return EvaluationSet([devices.put(part) for part in parts] if keep else parts, split.labels)


class _HostParts(NamedTuple):
    """Parts of images on the host; each is made when it is needed."""

    images: np.ndarray
    rows: np.ndarray

    def __iter__(self) -> Iterator[np.ndarray]:
        for rows in self.rows:
            part = np.zeros((*rows.shape, *self.images.shape[1:]), np.uint8)
            is_image = rows < len(self.images)
            part[is_image] = self.images[rows[is_image]]
            yield part


def predictor(network: nn.Module, num_samples: int = 0) -> Predictor:
    """Compiles, at its first call, a function that gives the heads of a set of images.

    Args:
        network: As `setup.make_network` builds it.
        num_samples: If not 0, forward passes with dropout on; else one pass without.

    Returns:
        A function of the parameters (leaves `[devices, seeds, ...]`), the seeds `[seeds]` and an
        `EvaluationSet` of N images; it returns `Heads` of NumPy arrays `[seeds, N, K]`, or
        `[seeds, num_samples, N, K]`. With `of_part`, a function of the heads of some images, it
        returns what that gives of them, and never holds the heads of all.
    """
    # The same function for the same arguments, whether they are named or left out.
    return _predictor(network, num_samples)


@functools.lru_cache(maxsize=8)
def _predictor(network: nn.Module, num_samples: int) -> Predictor:
    predict_part = seeds_predict(network, num_samples, loops=loops(network))
    pmapped = devices.pmap(predict_part, in_axes=(0, None, None, 0))

    def predict(
        params: Any,
        seeds: ArrayLike,
        images: EvaluationSet,
        of_part: Callable[[Heads], Any] = lambda heads: heads,
    ) -> Any:
        found, first = [], 0
        for part in images.parts:
            # On the devices, as those that are kept: one program then serves both.
            part = part if isinstance(part, Array) else devices.put(part)
            heads = devices.unreplicate(pmapped(params, seeds, first, part))
            first += heads.logits.shape[-2]
            found.append(jax.tree.map(np.asarray, of_part(heads)))
        joined = jax.tree.map(lambda *parts: np.concatenate(parts, -2), *found)
        return jax.tree.map(lambda values: values[..., : len(images.labels), :], joined)

    return predict


def seeds_predict(
    network: nn.Module, num_samples: int = 0, *, loops: bool = True
) -> Callable[..., Heads]:
    """The heads of a part of the images, over seeds: what `predictor` gives to every device.

    Args:
        network: As `setup.make_network` builds it.
        num_samples: As for `predictor`.
        loops: Whether the network may be in a loop; see `setup.loops`.

    Returns:
        A function of the parameters (leaves `[seeds, ...]`), the seeds `[seeds]`, the place of the
        part's first image, and a device's images, uint8 `[batches, rows, H, W]`.
    """
    every = lax.map if loops else _unrolled_map

    def one_batch(params: Any, stream: Array, first: Array, images: Array) -> Heads:
        def one_pass(keys: Array | None) -> Heads:
            heads: Any = network.apply(params, to_pixels(images), keys)
            return heads

        if not num_samples:
            return one_pass(None)
        keys = jax.vmap(lambda sample: jax.random.fold_in(stream, sample))(jnp.arange(num_samples))
        places = first + jnp.arange(len(images))

        def sample(key: Array) -> Heads:
            return one_pass(example_keys(key, places))

        # What comes before the dropout does not depend on the key, so vmap computes it once.
        return lax.map(sample, keys) if loops else jax.vmap(sample)(keys)

    def one_seed(params: Any, seed: Array, first: Array, batches: Array) -> Heads:
        stream = seed_keys(seed).evaluation
        firsts = first + jnp.arange(len(batches)) * batches.shape[1]
        heads = every(lambda inputs: one_batch(params, stream, *inputs), (firsts, batches))
        # [batches, (samples,) rows, K] to [(samples,) batches * rows, K]
        heads = jax.tree.map(lambda head: jnp.moveaxis(head, 0, -3), heads)
        return jax.tree.map(lambda head: head.reshape(*head.shape[:-3], -1, head.shape[-1]), heads)

    def every_seed(params: Any, seeds: Array, first: Array, batches: Array) -> Heads:
        first = first + lax.axis_index(devices.AXIS) * batches.shape[0] * batches.shape[1]

        def in_turn(params_and_seed: tuple[Any, Array]) -> Heads:
            return one_seed(*params_and_seed, first, batches)

        # One model and many images keep a device busy.
        heads = every(in_turn, (params, seeds))
        return jax.tree.map(
            lambda head: lax.all_gather(head, devices.AXIS, axis=head.ndim - 2, tiled=True), heads
        )

    return every_seed


def _unrolled_map(function: Callable[[Any], Any], arrays: Any) -> Any:
    """`lax.map` without a loop."""
    count = len(jax.tree.leaves(arrays)[0])
    results = [function(jax.tree.map(lambda array, i=i: array[i], arrays)) for i in range(count)]
    return jax.tree.map(lambda *each: jnp.stack(each), *results)


@functools.partial(jax.jit, static_argnums=0)
def log_probs(method: Method, heads: Heads, fitted: Any = None) -> Array:
    """The method's log-probabilities `[seeds, N, K]` of heads that a `predictor` gave.

    Args:
        method: Whose predictions to make.
        heads: `[seeds, N, K]`; or `[seeds, samples, N, K]` where the method averages samples.
        fitted: What `fit` returned.
    """

    def one_seed(heads: Heads, fitted: Any) -> Array:
        if method.num_samples:
            return mean_log_probs(jax.vmap(method.log_probs, (0, None))(heads, fitted))
        return method.log_probs(heads, fitted)

    return jax.vmap(one_seed)(heads, fitted)


def fit(setup: Setup, params: Any, seeds: ArrayLike, validation: Split) -> Any:
    """What the method fits on validation data after training, for each seed; None for nothing.

    Takes what `evaluate` takes.
    """
    if setup.method.fit is None:
        return None
    predict = predictor(setup.network, setup.method.num_samples)
    heads = predict(devices.replicate(params), seeds, shard_images(validation, setup.network))
    return jax.vmap(setup.method.fit, (0, None))(heads, jnp.asarray(validation.labels))


def evaluate(
    setup: Setup, params: Any, seeds: ArrayLike, validation: Split, *tests: Split
) -> tuple[list[Metrics], Any]:
    """Fits what the method fits, predicts test sets and measures.

    Args:
        setup: Whose network and method to use.
        params: Trained parameters, leaves `[seeds, ...]`, NumPy.
        seeds: int32 `[seeds]`.
        validation: What to fit on.
        tests: What to measure on.

    Returns:
        The metrics of each test set, and what `fit` fitted.
    """
    fitted = fit(setup, params, seeds, validation)
    predict = predictor(setup.network, setup.method.num_samples)
    spread = devices.replicate(params)
    measured = []
    for test in tests:
        images = shard_images(test, setup.network, keep=False)
        found = predict(spread, seeds, images, lambda heads: log_probs(setup.method, heads, fitted))
        measured.append(measure(found, test.labels))
    return measured, fitted


@jax.jit
def measure(log_probs: Array, labels: ArrayLike) -> Metrics:
    """Measures log-probabilities `[seeds, N, K]` against labels `[N]`."""

    def one_seed(log_probs: Array) -> Metrics:
        return Metrics(
            100 * metrics.error_rate(log_probs, labels),
            metrics.nll(log_probs, labels),
            100 * metrics.expected_calibration_error(log_probs, labels),
            metrics.brier(log_probs, labels),
        )

    return jax.vmap(one_seed)(log_probs)
