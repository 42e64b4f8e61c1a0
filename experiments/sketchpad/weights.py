"""The weights of a network as JSON values, small enough for a page."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

# Pixels of zeros that the convolutions of each network add on each side.
PADDING = {"lenet": 0, "cnn": 2}

_LARGEST = 127
# Below it, scales would have too few digits, and nobody would miss the weights.
_NEGLIGIBLE = 1e-30


def pack(params: Any, padding: int, quantised: bool = True) -> dict[str, Any]:
    """Packs the parameters of a network of `PADDING`, without what only training needs.

    Args:
        params: The network's, of one seed.
        padding: Its convolutions'.
        quantised: Whether kernels become int8, with a scale for each output; else float32.

    Returns:
        Layers in the order in which they follow one another; arrays are little-endian, in base64.
    """
    layers, heads = params["params"], params["params"]["heads"]
    names = sorted(name for name in layers if name.startswith("ConvReluPool"))
    return {
        "blocks": [{**_layer(layers[name], quantised), "padding": padding} for name in names],
        "dense": _layer(layers["DenseRelu_0"]["Dense_0"], quantised),
        "logits": _layer(heads["logits"], quantised),
        "prior_logits": _layer(heads["prior_logits"], quantised),
    }


def quantise(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounds a kernel `[..., outputs]` to int8.

    Returns:
        The integers, and the scale of each output by which to multiply them, float32.

    Example:
        >>> integers, scales = quantise(np.array([[0.5], [-1.0]]))
        >>> integers.ravel().tolist(), (scales * 127).tolist()
        ([64, -127], [1.0])
    """
    largest = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(0)
    scales = np.where(largest > _NEGLIGIBLE, largest / _LARGEST, 1).astype(np.float32)
    return np.rint(kernel / scales).astype(np.int8), scales


def _layer(layer: Mapping[str, Any], quantised: bool) -> dict[str, Any]:
    kernel = np.asarray(layer["kernel"], np.float32)
    integers, scales = quantise(kernel) if quantised else (kernel, None)
    packed = {
        "shape": kernel.shape,
        "values": _base64(integers),
        "scales": None if scales is None else _base64(scales),
    }
    return {"kernel": packed, "bias": _base64(np.asarray(layer["bias"], np.float32))}


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
