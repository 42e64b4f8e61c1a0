"""Every method learns real digits, trained and used as a trainer without special cases does."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dropmax_jax import METHODS, Heads, Method, metrics
from dropmax_jax.methods.mc_dropout import mean_log_probs
from experiments import data

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
def dataset() -> data.Dataset:
    return data.load("mnist_5k")


@pytest.mark.parametrize("name", METHODS)
def test_learns_digits(name: str, dataset: data.Dataset) -> None:
    method = METHODS[name]
    network = Network(method)
    images, labels = jnp.asarray(dataset.train.images), jnp.asarray(dataset.train.labels)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def train(key: jax.Array) -> tuple[Any, jax.Array]:
        params = network.init(key, images[:1], False)

        def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            params, opt_state = state
            batch_key, dropout_key, mask_key = jax.random.split(key, 3)
            batch = jax.random.choice(batch_key, len(labels), (BATCH,), replace=False)

            def mean_loss(params: Any) -> jax.Array:
                heads = network.apply(params, images[batch], True, rngs={"dropout": dropout_key})
                keys = jax.random.split(mask_key, BATCH)
                terms = jax.vmap(method.terms)(keys, heads, labels[batch])
                return jnp.mean(sum(terms.values()))

            loss, gradients = jax.value_and_grad(mean_loss)(params)
            updates, opt_state = optimizer.update(gradients, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), loss

        state = (params, optimizer.init(params))
        (params, _), losses = jax.lax.scan(step, state, jax.random.split(key, STEPS))
        return params, losses

    params, losses = train(jax.random.key(0))
    assert np.all(np.isfinite(losses))

    def heads(images: np.ndarray) -> Heads:
        return network.apply(params, images, False)  # type: ignore[return-value]

    fitted = None
    if method.fit is not None:
        validation = dataset.validation
        fitted = method.fit(heads(validation.images), jnp.asarray(validation.labels))
    if method.num_samples:
        log_probs = mean_log_probs(
            jnp.stack(
                [
                    method.log_probs(
                        network.apply(params, dataset.test.images, True, rngs={"dropout": key}),
                        fitted,
                    )
                    for key in jax.random.split(jax.random.key(1), 5)
                ]
            )
        )
    else:
        log_probs = method.log_probs(heads(dataset.test.images), fitted)
    error = metrics.error(log_probs, dataset.test.labels)
    print(name, float(error))
    assert error < 0.16
