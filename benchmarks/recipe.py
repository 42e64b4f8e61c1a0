"""What all trainers get: the numbers of the recipe, the parameters, the check examples.

Parameters are NumPy arrays by layer, in the layout of JAX and TensorFlow: convolution kernels
`[height, width, in, out]`, dense kernels `[in, out]`, and dense inputs flattened in the order
height, width, channels. A peer with another layout converts them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

BATCH_SIZE = 100
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-4
TEMPERATURE = 0.1
EPSILON = 1e-20
IMAGE_SIZE = 28
NUM_CLASSES = 10

MODELS = ("softmax", "dropmax")
MASK_HEADS = ("prior_logits", "label_logits")

Params = dict[str, dict[str, np.ndarray]]
"""Kernel and bias of each layer: conv1, conv2, dense, and the heads."""


class Network(NamedTuple):
    """The settings of a network of two 5x5 convolutions with pooling, a dense layer and heads."""

    features: tuple[int, int]
    padding: int
    hidden: int
    dropout_rate: float

    @property
    def sides(self) -> tuple[int, int]:
        """The height of each convolution's output, which equals the width."""
        first = IMAGE_SIZE - 4 + 2 * self.padding
        return first, first // 2 - 4 + 2 * self.padding

    @property
    def flat(self) -> int:
        """How many inputs the dense layer has."""
        return (self.sides[1] // 2) ** 2 * self.features[1]


NETWORKS = {
    "lenet": Network((20, 50), 0, 500, 0.0),
    "cnn": Network((32, 64), 2, 1024, 0.5),
}


class Inputs(NamedTuple):
    """What a trainer starts from.

    Attributes:
        params: Parameters with all three heads, whatever the model needs.
        images: uint8 `[N, 28, 28]`.
        labels: int32 `[N]`.
        noise: Standard logistic, float32 `[N, K]`, to check losses with.
    """

    params: Params
    images: np.ndarray
    labels: np.ndarray
    noise: np.ndarray


class Trainer(NamedTuple):
    """A model in training.

    Attributes:
        run: Trains for a number of steps, and returns when they are done.
        params: The parameters now.
        num_models: How many models each step trains.
    """

    run: Callable[[int], None]
    params: Callable[[], Params]
    num_models: int = 1


class Make(Protocol):
    """What the function `make` of a peer looks like."""

    def __call__(
        self, model: str, network: str, params: Params, images: np.ndarray, labels: np.ndarray
    ) -> Trainer:
        """Gets a model ready for training; it may compile at the first step."""


def heads_of(model: str) -> tuple[str, ...]:
    """The heads that a model has."""
    return ("logits",) if model == "softmax" else ("logits", *MASK_HEADS)


def params_of(model: str, params: Params) -> Params:
    """A model's own parameters, out of those with all heads."""
    return {name: params[name] for name in ("conv1", "conv2", "dense", *heads_of(model))}


def make_params(network: str, *, random_biases: bool = False) -> Params:
    """Draws Glorot-uniform kernels; biases are zero, as at the start of training.

    Args:
        network: A name of `NETWORKS`.
        random_biases: Draw biases too, because checks with zeros could not fail.
    """
    random = np.random.default_rng(0)
    parts = NETWORKS[network]
    shapes = {
        "conv1": (5, 5, 1, parts.features[0]),
        "conv2": (5, 5, *parts.features),
        "dense": (parts.flat, parts.hidden),
        **dict.fromkeys(heads_of("dropmax"), (parts.hidden, NUM_CLASSES)),
    }

    def layer(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        receptive = int(np.prod(shape[:-2]))
        limit = np.sqrt(6 / (receptive * (shape[-2] + shape[-1])))
        kernel = random.uniform(-limit, limit, shape).astype(np.float32)
        bias = random.uniform(-0.1, 0.1, shape[-1:]) if random_biases else np.zeros(shape[-1:])
        return {"kernel": kernel, "bias": bias.astype(np.float32)}

    return {name: layer(shape) for name, shape in shapes.items()}


def make_inputs(
    network: str, images: np.ndarray, labels: np.ndarray, *, random_biases: bool = False
) -> Inputs:
    """What a trainer of the network starts from, on the images."""
    noise = np.random.default_rng(1).logistic(size=(len(labels), NUM_CLASSES))
    params = make_params(network, random_biases=random_biases)
    return Inputs(params, images, labels, noise.astype(np.float32))


def write_inputs(inputs: Inputs, path: Path) -> None:
    """Writes inputs for another process to read."""
    params = {
        f"{layer}/{kind}": value
        for layer, arrays in inputs.params.items()
        for kind, value in arrays.items()
    }
    np.savez(path, images=inputs.images, labels=inputs.labels, noise=inputs.noise, **params)  # type: ignore[arg-type]


def read_inputs(path: Path) -> Inputs:
    """Reads what `write_inputs` wrote."""
    params: Params = {}
    with np.load(path) as arrays:
        for name in arrays.files:
            layer, _, kind = name.partition("/")
            if kind:
                params.setdefault(layer, {})[kind] = arrays[name]
        return Inputs(params, arrays["images"], arrays["labels"], arrays["noise"])
