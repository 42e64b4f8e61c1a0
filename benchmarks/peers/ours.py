"""This project's own trainer, called as `experiments.run` calls it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.recipe import BATCH_SIZE, TEMPERATURE, Params, Trainer, params_of
from dropmax_jax import METHODS, concrete_log_mask, dropmax_loss_terms, posterior_logits
from dropmax_jax.metrics import mean_log_probs
from experiments.calibration.predictions import NUM_SAMPLES
from experiments.data.split import Split
from experiments.runtime import devices
from experiments.train import evaluation
from experiments.train.config import Config
from experiments.train.steps import programs, training
from experiments.train.steps.setup import Setup, make_setup


def make(
    model: str,
    network: str,
    params: Params,
    images: np.ndarray,
    labels: np.ndarray,
    num_seeds: int = 1,
) -> Trainer:
    """Puts state and data on the device and trains in programs of up to an epoch."""
    setup = _setup(model, network, len(labels), num_seeds)
    seeds = jnp.arange(num_seeds)
    initial = programs.initial_states(setup, seeds)
    state = devices.replicate(initial._replace(params=_stacked(model, params, num_seeds)))
    data = programs.shard_examples(Split(images, labels))
    run_steps = programs.pmapped_train_steps(setup)
    step = 0

    def run(num_steps: int) -> None:
        nonlocal state, step
        last = step + num_steps
        while step < last:
            stop = min(last, (step // setup.steps_per_epoch + 1) * setup.steps_per_epoch)
            # The real trainer also waits after each call, to look for a request to stop.
            state = jax.block_until_ready(run_steps(state, seeds, step, stop, *data))
            step = stop

    def params_now() -> Params:
        first = jax.tree.map(lambda leaf: leaf[0], devices.unreplicate(state.params))
        return _from_project(first)

    return Trainer(run, params_now, num_seeds)


def loss_and_gradient(
    model: str,
    network: str,
    params: Params,
    images: np.ndarray,
    labels: np.ndarray,
    noise: np.ndarray,
) -> tuple[float, Params]:
    """See `benchmarks.peers`."""
    setup = _setup(model, network, len(labels))

    @jax.jit
    def loss(params: Any) -> jax.Array:
        heads: Any = setup.network.apply(params, training.to_pixels(jnp.asarray(images)))
        if model == "softmax":
            return jnp.mean(METHODS["softmax"].loss(jax.random.key(0), heads, labels))
        log_mask = concrete_log_mask(posterior_logits(heads), noise, TEMPERATURE)
        return jnp.mean(dropmax_loss_terms(heads, labels, log_mask).total)

    value, gradient = jax.value_and_grad(loss)(_to_project(model, params))
    return float(value), _from_project(jax.tree.map(np.asarray, gradient))


def predictor(
    model: str,
    network: str,
    params: Params,
    images: np.ndarray,
    batch_size: int,
    num_masks: int = 0,
) -> Callable[[], np.ndarray]:
    """See `benchmarks.peers`.

    Args:
        model: A name of `MODELS`.
        network: A name of `NETWORKS`.
        params: What to predict with.
        images: uint8 `[N, 28, 28]`.
        batch_size: Not used, because the project chooses its own.
        num_masks: If not 0, average the predictions of this many masks drawn from the prior.
    """
    del batch_size
    setup = _setup(model, network, BATCH_SIZE)
    labels = np.zeros(len(images), np.int32)
    on_devices = evaluation.shard_images(Split(images, labels), setup.network)
    replicated = devices.replicate(_stacked(model, params, 1))
    heads_of = evaluation.predictor(setup.network)
    seeds = np.zeros(1, np.int32)

    @jax.jit
    def log_probs(heads: Any) -> jax.Array:
        if not num_masks:
            return evaluation.log_probs(setup.method, heads)[0]
        assert setup.method.sample_log_probs is not None
        first = jax.tree.map(lambda head: head[0], heads)
        return mean_log_probs(setup.method.sample_log_probs(jax.random.key(0), first, num_masks))

    def predict() -> np.ndarray:
        return np.asarray(log_probs(heads_of(replicated, seeds, on_devices)))

    return predict


def monte_carlo_predictor(
    model: str, network: str, params: Params, images: np.ndarray, batch_size: int
) -> Callable[[], np.ndarray]:
    """A `predictor` that averages over masks."""
    return predictor(model, network, params, images, batch_size, num_masks=NUM_SAMPLES)


def _setup(model: str, network: str, num_train: int, num_seeds: int = 1) -> Setup:
    config = Config(model, network, batch_size=BATCH_SIZE, seeds=tuple(range(num_seeds)))
    return make_setup(config, num_train)


def _stacked(model: str, params: Params, num_seeds: int) -> Any:
    """The parameters as the trainer keeps them: leaves `[seeds, ...]`."""
    return jax.tree.map(
        lambda leaf: np.broadcast_to(leaf, (num_seeds, *leaf.shape)), _to_project(model, params)
    )


def _to_project(model: str, params: Params) -> Any:
    """The parameters under the names of the project's networks."""
    own = params_of(model, params)
    layers = {"ConvReluPool_0": own.pop("conv1"), "ConvReluPool_1": own.pop("conv2")}
    return {"params": {**layers, "DenseRelu_0": {"Dense_0": own.pop("dense")}, "heads": own}}


def _from_project(tree: Any) -> Params:
    layers = tree["params"]
    return {
        "conv1": layers["ConvReluPool_0"],
        "conv2": layers["ConvReluPool_1"],
        "dense": layers["DenseRelu_0"]["Dense_0"],
        **layers["heads"],
    }
