"""Every method learns real digits with a trainer that has no special cases."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dropmax_jax import METHODS, Heads, Method, metrics
from dropmax_jax.metrics import mean_log_probs
from experiments.data import datasets
from experiments.data.datasets import Dataset

STEPS, BATCH = 150, 100


class Network(nn.Module):
    """784 pixels, 64 hidden units, the heads that a method asks for."""

    method: Method

    @nn.compact
    def __call__(self, images: jax.Array, has_dropout: bool) -> Heads:
        pixels = images.reshape(len(images), -1).astype(jnp.float32) / 255
        hidden = nn.relu(nn.Dense(64)(pixels))
        hidden = nn.Dropout(self.method.dropout_rate, deterministic=not has_dropout)(hidden)
        return Heads(**{name: nn.Dense(10, name=name)(hidden) for name in self.method.heads})


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return datasets.load("mnist_5k")


@pytest.mark.parametrize("name", METHODS)
def test_learns_digits(name: str, dataset: Dataset) -> None:
    method = METHODS[name]
    network = Network(method)
    images, labels = jnp.asarray(dataset.train.images), jnp.asarray(dataset.train.labels)
    optimizer = optax.adam(3e-3)

    def heads(params: Any, images: jax.Array) -> Heads:
        given = network.apply(params, images, False)
        assert isinstance(given, Heads)
        return given

    def noisy_heads(params: Any, images: jax.Array, key: jax.Array) -> Heads:
        given = network.apply(params, images, True, rngs={"dropout": key})
        assert isinstance(given, Heads)
        return given

    @jax.jit
    def train(key: jax.Array) -> tuple[Any, jax.Array]:
        params = network.init(key, images[:1], False)

        def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            params, opt_state = state
            batch_key, dropout_key, mask_key = jax.random.split(key, 3)
            batch = jax.random.randint(batch_key, (BATCH,), 0, len(labels))

            def mean_loss(params: Any) -> jax.Array:
                heads = noisy_heads(params, images[batch], dropout_key)
                keys = jax.random.split(mask_key, BATCH)
                terms = jax.vmap(method.terms)(keys, heads, labels[batch])
                return jnp.stack(list(terms.values())).sum(0).mean()

            loss, gradients = jax.value_and_grad(mean_loss)(params)
            updates, opt_state = optimizer.update(gradients, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), loss

        state = (params, optimizer.init(params))
        (params, _), losses = jax.lax.scan(step, state, jax.random.split(key, STEPS))
        return params, losses

    @jax.jit
    def predict(params: Any) -> jax.Array:
        fitted = None
        if method.fit is not None:
            images, labels = map(jnp.asarray, dataset.validation)
            fitted = method.fit(heads(params, images), labels)
        images = jnp.asarray(dataset.test.images)
        if not method.num_samples:
            return method.log_probs(heads(params, images), fitted)

        def sample(key: jax.Array) -> jax.Array:
            return method.log_probs(noisy_heads(params, images, key), fitted)

        # We draw fewer samples than the method asks for, to save time.
        return mean_log_probs(jax.lax.map(sample, jax.random.split(jax.random.key(1), 5)))

    params, losses = train(jax.random.key(0))
    assert np.all(np.isfinite(losses))
    log_probs = predict(params)
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1.0, rtol=1e-4)
    assert metrics.error_rate(log_probs, dataset.test.labels) < 0.16
