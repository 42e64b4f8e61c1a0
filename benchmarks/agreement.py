"""Checks that all trainers compute the same, before anything is timed."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import recipe
from benchmarks.peers import PEERS
from benchmarks.workers import worker
from experiments.cli.errors import RunFailedError
from experiments.data.split import Split

LOSS_TOLERANCE = 1e-4
# If rounding decides between two pixels of a pooling window, either may get the gradient.
GRADIENT_TOLERANCE = 1e-2
NUM_STEPS = 3


def check_trainers(
    names: Sequence[str], models: Sequence[str], networks: Sequence[str], train: Split
) -> None:
    """Checks loss and gradient of one batch, and the loss after three steps of training on it.

    Loss and gradient use given parameters and noise and no dropout, for each model and network.
    The steps train the softmax on LeNet and draw nothing. They check the optimiser and weight
    decay.

    Args:
        names: Names of peers; the others are compared with the first.
        models: Names of `recipe.MODELS`.
        networks: Names of `recipe.NETWORKS`.
        train: Images to take a batch from.

    Raises:
        RunFailedError: Two peers disagree.
    """
    names = [name for name in names if PEERS[name].is_trainer]
    # The rows are spread over all images, because they may be sorted by class.
    rows = np.linspace(0, len(train.labels) - 1, recipe.BATCH_SIZE).astype(int)
    images, labels = train.images[rows], train.labels[rows]
    expected: dict[str, tuple[float, recipe.Params]] = {}
    expected_trained: float | None = None
    for network in networks:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "inputs.npz"
            inputs = recipe.make_inputs(network, images, labels, random_biases=True)
            recipe.write_inputs(inputs, path)
            for name in names:
                with worker(name, path) as ask:
                    for model in models:
                        answer = ask(
                            "loss_and_gradient",
                            model=model,
                            network=network,
                            path=f"{scratch}/found.npz",
                        )
                        gradient = recipe.read_inputs(Path(scratch, "found.npz")).params
                        case = f"{model}, {network}"
                        loss, gradient_of_first = expected.setdefault(
                            case, (answer["loss"], gradient)
                        )
                        _check_loss(name, names[0], case, answer["loss"], loss, LOSS_TOLERANCE)
                        _check_gradient(name, names[0], case, gradient, gradient_of_first)
                    if network == "lenet" and "softmax" in models:
                        trained = ask(
                            "trained_loss", model="softmax", network=network, num_steps=NUM_STEPS
                        )["loss"]
                        expected_trained = expected_trained or trained
                        case = f"softmax, lenet, after {NUM_STEPS} steps"
                        _check_loss(
                            name, names[0], case, trained, expected_trained, GRADIENT_TOLERANCE
                        )
    for case, (loss, _) in expected.items():
        print(f"same loss and gradient: {case}, {loss:.5f}, by {', '.join(names)}", flush=True)
    if expected_trained is not None:
        print(f"same loss after {NUM_STEPS} steps: {expected_trained:.5f}", flush=True)


def _check_loss(
    name: str, first: str, case: str, loss: float, expected: float, tolerance: float
) -> None:
    if not abs(loss - expected) <= tolerance * abs(expected):
        raise RunFailedError(
            f"the losses differ: {case}, is {loss:.7g} by {name} and {expected:.7g} by {first}"
        )


def _check_gradient(
    name: str, first: str, case: str, gradient: recipe.Params, expected: recipe.Params
) -> None:
    for layer, arrays in expected.items():
        for kind, values in arrays.items():
            distance = relative_distance(gradient[layer][kind], values)
            if not distance <= GRADIENT_TOLERANCE:
                raise RunFailedError(
                    f"the gradients differ: {case}, {kind} of {layer}, by {distance:.1e} of their "
                    f"size between {name} and {first}"
                )


def relative_distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The norm of the difference, relative to the norm of `expected`.

    >>> round(relative_distance(np.array([3.0, 4.1]), np.array([3.0, 4.0])), 3)
    0.02
    """
    if found.shape != expected.shape:
        return np.inf
    distance, size = (float(np.linalg.norm(array)) for array in (found - expected, expected))
    if not distance:
        return 0.0
    return distance / size if size else np.inf
