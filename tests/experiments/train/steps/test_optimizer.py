from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import weight_decay_mask
from experiments.data.datasets import Dataset
from experiments.runtime import devices
from experiments.train.config import Config
from experiments.train.steps import programs, training
from experiments.train.steps.setup import make_optimizer, make_setup
from tests.experiments.tiny import DROPMAX, Steps, by_name


def numpy_adam(
    params: dict[str, np.ndarray], gradients: list[dict[str, np.ndarray]], rates: list[float]
) -> dict[str, np.ndarray]:
    """Kingma and Ba 2015, algorithm 1, with L2 decay in the gradient of what is decayed."""
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    first = {name: np.zeros_like(value) for name, value in params.items()}
    second = {name: np.zeros_like(value) for name, value in params.items()}
    for count, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        for name, value in params.items():
            decay = 0.0 if "prior_logits" in name or "label_logits" in name else 1e-4
            total = gradient[name] + decay * value
            first[name] = 0.9 * first[name] + 0.1 * total
            second[name] = 0.999 * second[name] + 0.001 * total**2
            mean, square = first[name] / (1 - 0.9**count), second[name] / (1 - 0.999**count)
            params[name] = value - rate * mean / (np.sqrt(square) + 1e-8)
    return params


class TestOptimizer:
    def test_is_adam_with_decay_in_the_gradient(self) -> None:
        """Six steps on the network over the three rates, with gradients as small as the decay."""
        setup = make_setup(DROPMAX, 100)
        start = programs.initial_states(setup, jnp.arange(1)).params
        optimizer = make_optimizer("adam", "steps", 1e-2, 1e-4, 6)
        rng = np.random.default_rng(0)
        # Biases start at zero, where decay would not show.
        params = jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape), start)
        gradients = [
            jax.tree.map(lambda leaf: 1e-4 * rng.normal(size=leaf.shape), params) for _ in range(6)
        ]

        @jax.jit
        def step(params: Any, state: Any, gradient: Any) -> Any:
            updates, state = optimizer.update(gradient, state, params)
            return jax.tree.map(jnp.add, params, updates), state

        found, state = params, optimizer.init(params)
        for gradient in gradients:
            found, state = step(found, state, gradient)
        wanted = numpy_adam(
            by_name(params), list(map(by_name, gradients)), [1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4]
        )
        for name, value in by_name(found).items():
            np.testing.assert_allclose(value, wanted[name], atol=2e-6, err_msg=name)

    def test_step_of_training_is_that_of_the_mean_loss(self, small_data: Dataset) -> None:
        """One whole batch, so that its order does not matter to a softmax's mean loss."""
        config = Config("softmax", network="tiny", batch_size=200, num_epochs=3)
        setup = make_setup(config, 200)
        steps = Steps(setup, small_data.train)
        before = devices.unreplicate(steps.state).params
        params = jax.tree.map(lambda leaf: leaf[0], before)

        def mean_loss(params: Any) -> jax.Array:
            pixels = jnp.asarray(small_data.train.images, jnp.float32)[..., None] / 255
            log_probs = jax.nn.log_softmax(setup.network.apply(params, pixels).logits)  # type: ignore[union-attr]
            return -jnp.mean(log_probs[jnp.arange(200), small_data.train.labels])

        loss, gradient = jax.jit(jax.value_and_grad(mean_loss))(params)
        wanted = numpy_adam(by_name(params), [by_name(gradient)], [1e-3])
        state = steps(1)
        for name, value in by_name(state.params).items():
            np.testing.assert_allclose(value[0], wanted[name], atol=1e-5, err_msg=name)
        np.testing.assert_allclose(state.totals["loss"][0] / 200, loss, rtol=1e-5)

    @pytest.mark.parametrize("num_steps", [3, 6, 60, 2001])
    def test_rate_falls_tenfold_after_each_third(self, num_steps: int) -> None:
        rates = rates_of(num_steps)
        wanted = np.repeat([1.0, 0.1, 0.01], num_steps // 3)
        np.testing.assert_allclose(rates, wanted, rtol=1e-4)

    @pytest.mark.parametrize("num_steps", [1, 2, 4, 5, 7, 2000])
    def test_rate_of_steps_that_are_no_thirds_ends_at_a_hundredth(self, num_steps: int) -> None:
        rates = rates_of(num_steps)
        assert np.all(np.diff(rates) < 1e-4)
        np.testing.assert_allclose(rates[-1], 0.01, rtol=1e-4)
        counts = [np.isclose(rates, rate, rtol=1e-3).sum() for rate in (1.0, 0.1, 0.01)]
        assert all(abs(count - num_steps / 3) < 1 for count in counts)

    def test_rate_falls_along_a_cosine_or_stays(self) -> None:
        wanted = (1 + np.cos(np.pi * np.arange(60) / 60)) / 2
        np.testing.assert_allclose(rates_of(60, "cosine"), wanted, rtol=1e-3)
        np.testing.assert_allclose(rates_of(60, "constant"), 1, rtol=1e-4)

    def test_is_sgd_with_nesterovs_momentum(self) -> None:
        """The step is the gradient and 0.9 times the velocity, which includes it."""
        optimizer = make_optimizer("sgd", "constant", 0.1, 0.5, 1)
        value, velocity = 2.0, 0.0
        params = {"kernel": jnp.float32(value)}
        state = optimizer.init(params)
        for gradient in (1.0, -2.0, 0.5):
            updates, state = optimizer.update({"kernel": jnp.float32(gradient)}, state, params)
            params = {"kernel": params["kernel"] + updates["kernel"]}
            decayed = gradient + 0.5 * value
            velocity = decayed + 0.9 * velocity
            value -= 0.1 * (decayed + 0.9 * velocity)
            np.testing.assert_allclose(params["kernel"], value, rtol=1e-6)

    @pytest.mark.parametrize("network", ["lenet", "cnn"])
    def test_decays_all_but_the_mask_heads(self, network: str) -> None:
        setup = make_setup(Config("dropmax", network=network), 200)
        params = jax.eval_shape(lambda: training.initial_state(setup, jnp.int32(0)).params)
        decayed = {
            name for name, is_decayed in by_name(weight_decay_mask(params)).items() if is_decayed
        }
        others = {name for name in by_name(params) if name not in decayed}
        assert len(decayed) == 8
        assert {name.split("'")[5] for name in others} == {"prior_logits", "label_logits"}
        assert len(others) == 4


def rates_of(num_steps: int, schedule: str = "steps") -> np.ndarray:
    """The learning rate of each step, relative to the first.

    Adam's steps are as long as the rate if all gradients are the same.
    """
    optimizer = make_optimizer("adam", schedule, 1.0, 1e-4, num_steps)
    params, gradient = {"prior_logits": jnp.zeros(())}, {"prior_logits": jnp.ones(())}

    def step(state: Any, _: None) -> tuple[Any, jax.Array]:
        updates, state = optimizer.update(gradient, state, params)
        return state, -updates["prior_logits"]

    rates = jax.lax.scan(step, optimizer.init(params), None, num_steps)[1]
    return np.asarray(rates)
