"""The recipe in plain Flax, as its examples are written: nn.Conv, nn.max_pool, one jitted step."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from benchmarks.recipe import (
    BATCH_SIZE,
    EPSILON,
    LEARNING_RATE,
    MASK_HEADS,
    NETWORKS,
    NUM_CLASSES,
    TEMPERATURE,
    WEIGHT_DECAY,
    Params,
    Trainer,
    heads_of,
    params_of,
)

Heads = dict[str, Array]


class Classifier(nn.Module):
    """Either network; its layers have the names of `recipe.Params`."""

    network: str
    heads: tuple[str, ...]

    @nn.compact
    def __call__(self, pixels: Array, is_training: bool) -> Heads:
        """Maps `[B, 28, 28, 1]` to heads `[B, K]`."""
        parts = NETWORKS[self.network]
        features = pixels
        for name, size in zip(("conv1", "conv2"), parts.features, strict=True):
            features = nn.Conv(size, (5, 5), padding=parts.padding, name=name)(features)
            features = nn.max_pool(nn.relu(features), (2, 2), (2, 2))
        features = features.reshape(len(features), -1)
        features = nn.relu(nn.Dense(parts.hidden, name="dense")(features))
        features = nn.Dropout(parts.dropout_rate, deterministic=not is_training)(features)
        return {name: nn.Dense(NUM_CLASSES, name=name)(features) for name in self.heads}


def make(
    model: str, network: str, params: Params, images: np.ndarray, labels: np.ndarray
) -> Trainer:
    """See `benchmarks.peers`."""
    classifier = Classifier(network, heads_of(model))

    def is_decayed(params: Params) -> Any:
        return {
            name: jax.tree.map(lambda _, name=name: name not in MASK_HEADS, layer)
            for name, layer in params.items()
        }

    optimizer = optax.chain(
        optax.add_decayed_weights(WEIGHT_DECAY, mask=is_decayed), optax.adam(LEARNING_RATE)
    )

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def train_step(params: Any, opt_state: Any, key: Array, rows: Array) -> tuple[Any, Any, Array]:
        key, noise_key, dropout_key = jax.random.split(key, 3)

        def loss(params: Any) -> Array:
            variables, streams = {"params": params}, {"dropout": dropout_key}
            pixels = _pixels(all_images[rows])
            heads: Any = classifier.apply(variables, pixels, True, rngs=streams)
            noise = jax.random.logistic(noise_key, (BATCH_SIZE, NUM_CLASSES))
            return _mean_loss(heads, all_labels[rows], noise)

        gradient = jax.grad(loss)(params)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, key

    all_images, all_labels = jnp.asarray(images), jnp.asarray(labels)
    state = jax.tree.map(jnp.array, params_of(model, params))
    opt_state, key = optimizer.init(state), jax.random.key(0)
    random, rows = np.random.default_rng(0), np.empty(0, np.int32)

    def run(num_steps: int) -> None:
        nonlocal state, opt_state, key, rows
        for _ in range(num_steps):
            if len(rows) < BATCH_SIZE:
                rows = random.permutation(len(labels)).astype(np.int32)
            batch, rows = rows[:BATCH_SIZE], rows[BATCH_SIZE:]
            state, opt_state, key = train_step(state, opt_state, key, batch)
        jax.block_until_ready(state)

    return Trainer(run, lambda: jax.tree.map(np.asarray, state))


def loss_and_gradient(
    model: str,
    network: str,
    params: Params,
    images: np.ndarray,
    labels: np.ndarray,
    noise: np.ndarray,
) -> tuple[float, Params]:
    """See `benchmarks.peers`."""
    classifier = Classifier(network, heads_of(model))

    @jax.jit
    def loss(params: Any) -> Array:
        heads: Any = classifier.apply({"params": params}, _pixels(jnp.asarray(images)), False)
        return _mean_loss(heads, jnp.asarray(labels), jnp.asarray(noise))

    value, gradient = jax.value_and_grad(loss)(params_of(model, params))
    return float(value), jax.tree.map(np.asarray, gradient)


def _pixels(images: Array) -> Array:
    return images[..., None].astype(jnp.float32) / 255


def _mean_loss(heads: Heads, labels: Array, noise: Array) -> Array:
    logits = heads["logits"]
    if len(heads) == 1:
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
    prior, label = heads["prior_logits"], heads["label_logits"]
    target = jax.nn.one_hot(labels, NUM_CLASSES)
    posterior = jax.lax.stop_gradient(prior) + label
    mask = jnp.where(target == 1, 1.0, nn.sigmoid((posterior + noise) / TEMPERATURE))
    cross_entropy = optax.softmax_cross_entropy(logits + jnp.log(mask + EPSILON), target)
    q, p = nn.sigmoid(posterior), nn.sigmoid(prior)
    log_p, log_not_p = nn.log_sigmoid(prior), nn.log_sigmoid(-prior)
    kl = q * (nn.log_sigmoid(posterior) - log_p) + (1 - q) * (
        nn.log_sigmoid(-posterior) - log_not_p
    )
    kl = jnp.where(target == 1, -log_p, kl)
    regression = optax.sigmoid_binary_cross_entropy(label, target)
    negative_entropy = p * log_p + (1 - p) * log_not_p
    return jnp.mean(cross_entropy + jnp.sum(kl + regression + negative_entropy, -1))
