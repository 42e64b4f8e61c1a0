"""DropMax works in any framework, with any three vectors per example."""

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from dropmax_jax import Heads, dropmax_log_probs, dropmax_loss

NUM_CLASSES, SIZE = 4, 8
OPTIMIZER = optax.adam(0.02)

Step = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
Predict = Callable[[jax.Array], jax.Array]


def mean_loss(key: jax.Array, outputs: jax.Array, labels: jax.Array) -> jax.Array:
    return dropmax_loss(key, Heads.split(outputs), labels).mean()


def pure(apply: Callable[..., jax.Array], params: Any) -> tuple[Step, Predict]:
    """Trains a function of parameters and examples, for all frameworks but NNX."""
    opt_state = OPTIMIZER.init(params)

    @jax.jit
    def update(params: Any, opt_state: Any, key: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        value, gradient = jax.value_and_grad(lambda p: mean_loss(key, apply(p, x), y))(params)
        updates, opt_state = OPTIMIZER.update(gradient, opt_state)
        return optax.apply_updates(params, updates), opt_state, value

    def step(key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        nonlocal params, opt_state
        params, opt_state, value = update(params, opt_state, key, x, y)
        return value

    return step, lambda x: apply(params, x)


def plain(x: jax.Array) -> tuple[Step, Predict]:
    def apply(params: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ params["hidden"]) @ params["out"]

    hidden = jax.random.normal(jax.random.key(0), (SIZE, 32)) / SIZE**0.5
    return pure(apply, {"hidden": hidden, "out": jnp.zeros((32, 3 * NUM_CLASSES))})


def linen(x: jax.Array) -> tuple[Step, Predict]:
    network: Any = nn.Sequential([nn.Dense(32), nn.tanh, nn.Dense(3 * NUM_CLASSES)])
    return pure(network.apply, network.init(jax.random.key(0), x))


def haiku(x: jax.Array) -> tuple[Step, Predict]:
    mlp = hk.transform(lambda x: hk.nets.MLP([32, 3 * NUM_CLASSES])(x))
    network: Any = hk.without_apply_rng(mlp)
    return pure(network.apply, network.init(jax.random.key(0), x))


def flax_nnx(x: jax.Array) -> tuple[Step, Predict]:
    rngs = nnx.Rngs(0)
    network = nnx.Sequential(
        nnx.Linear(SIZE, 32, rngs=rngs), jnp.tanh, nnx.Linear(32, 3 * NUM_CLASSES, rngs=rngs)
    )
    optimizer = nnx.Optimizer(network, OPTIMIZER, wrt=nnx.Param)

    @nnx.jit
    def step(network: Any, optimizer: Any, key: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        value, gradient = nnx.value_and_grad(lambda n: mean_loss(key, n(x), y))(network)
        optimizer.update(network, gradient)
        return value

    return lambda *batch: step(network, optimizer, *batch), network


def equinox(x: jax.Array) -> tuple[Step, Predict]:
    network = eqx.nn.MLP(SIZE, 3 * NUM_CLASSES, 32, 1, key=jax.random.key(0))
    params, static = eqx.partition(network, eqx.is_array)
    return pure(lambda params, x: jax.vmap(eqx.combine(params, static))(x), params)


def keys() -> Iterator[jax.Array]:
    """A new key each step."""
    for number in range(60):
        yield jax.random.fold_in(jax.random.key(1), number)


@pytest.mark.parametrize("make", [plain, linen, flax_nnx, equinox, haiku])
def test_a_network_learns(make: Callable[[jax.Array], tuple[Step, Predict]]) -> None:
    rng = np.random.default_rng(0)
    labels = jnp.asarray(np.arange(200) % NUM_CLASSES)
    centres = 2.0 * rng.normal(size=(NUM_CLASSES, SIZE))
    x = jnp.asarray(centres[labels] + rng.normal(size=(200, SIZE)), jnp.float32)
    step, predict = make(x)
    losses = [float(step(key, x, labels)) for key in keys()]
    assert np.all(np.isfinite(losses))
    assert losses[-1] < losses[0] - 1.0
    log_probs = dropmax_log_probs(Heads.split(predict(x)))
    assert jnp.mean(jnp.argmax(log_probs, axis=-1) != labels) < 0.05
