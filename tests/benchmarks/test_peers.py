"""All peers compute what this project computes. Peers that are not installed are skipped."""

import functools
import importlib
from typing import Any

import numpy as np
import pytest

from benchmarks import agreement, recipe
from benchmarks.peers import PEERS, is_installed, ours

# The compiled peer would take a minute; `benchmarks.train` checks it before it measures.
OTHERS = [
    name
    for name, peer in PEERS.items()
    if peer.is_trainer and name not in ("ours", "ours_5_seeds", "pytorch_compiled")
]
PREDICTING = ("tensorflow2", "pytorch", "pytorch_channels_last")


def module_of(name: str) -> Any:
    if not is_installed(name):
        pytest.skip(f"{PEERS[name].needs} is not installed")
    return importlib.import_module(PEERS[name].module)


def batch(network: str, size: int = 20) -> recipe.Inputs:
    random = np.random.default_rng(3)
    images = random.integers(0, 256, (size, 28, 28), np.uint8)
    # The pooled numbers tie in blank regions.
    images[:, :9] = images[:, :, 20:] = 0
    labels = np.arange(size, dtype=np.int32) % 10
    return recipe.make_inputs(network, images, labels, random_biases=True)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(
    ("network", "model"),
    [
        ("lenet", "dropmax"),
        ("cnn", "softmax"),
        pytest.param("lenet", "softmax", marks=pytest.mark.slow),
        pytest.param("cnn", "dropmax", marks=pytest.mark.slow),
    ],
)
def test_same_loss_and_gradient_as_ours(name: str, network: str, model: str) -> None:
    module, inputs = module_of(name), batch(network)
    loss, gradient = module.loss_and_gradient(model, network, *inputs)
    expected, expected_gradient = our_loss_and_gradient(model, network)
    assert loss == pytest.approx(expected, rel=agreement.LOSS_TOLERANCE)
    assert gradient.keys() == expected_gradient.keys()
    for layer, arrays in expected_gradient.items():
        for kind, values in arrays.items():
            distance = agreement.relative_distance(gradient[layer][kind], values)
            assert distance < agreement.GRADIENT_TOLERANCE, (layer, kind)


@pytest.mark.parametrize("name", OTHERS)
def test_same_parameters_after_some_steps(name: str) -> None:
    module, inputs = module_of(name), batch("lenet", recipe.BATCH_SIZE)
    found, expected = train(module.make, inputs), our_trained()
    for layer, arrays in expected.items():
        for kind, values in arrays.items():
            moved = values - inputs.params[layer][kind]
            difference = found[layer][kind] - values
            # Adam's first steps have the size of the rate, whatever the gradient's size. Single
            # parameters differ if rounding decides the gradient's sign.
            assert np.linalg.norm(difference) < 0.03 * np.linalg.norm(moved), (layer, kind)


def train(make: recipe.Make, inputs: recipe.Inputs) -> recipe.Params:
    trainer = make("softmax", "lenet", inputs.params, inputs.images, inputs.labels)
    trainer.run(3)
    return trainer.params()


@functools.cache
def our_trained() -> recipe.Params:
    return train(ours.make, batch("lenet", recipe.BATCH_SIZE))


@functools.cache
def our_loss_and_gradient(model: str, network: str) -> tuple[float, recipe.Params]:
    return ours.loss_and_gradient(model, network, *batch(network))


@pytest.mark.parametrize("name", PREDICTING)
@pytest.mark.parametrize("model", recipe.MODELS)
def test_same_predictions(name: str, model: str) -> None:
    module, inputs = module_of(name), batch("lenet")
    found = module.predictor(model, "lenet", inputs.params, inputs.images, 10)()
    expected = ours.predictor(model, "lenet", inputs.params, inputs.images, 10)()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_monte_carlo_predicts_probabilities() -> None:
    inputs = batch("lenet")
    predict = ours.monte_carlo_predictor("dropmax", "lenet", inputs.params, inputs.images, 10)
    np.testing.assert_allclose(np.exp(predict()).sum(-1), 1, rtol=1e-4)


def test_inputs_survive_a_file(tmp_path: Any) -> None:
    inputs = batch("cnn", 2)
    recipe.write_inputs(inputs, tmp_path / "inputs.npz")
    found = recipe.read_inputs(tmp_path / "inputs.npz")
    np.testing.assert_equal(found._asdict(), inputs._asdict())
