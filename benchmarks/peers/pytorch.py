"""The recipe in PyTorch, eager, with the fused Adam."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

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
    params_of,
)

Tensors = dict[str, dict[str, Any]]


def make(
    model: str,
    network: str,
    params: Params,
    images: np.ndarray,
    labels: np.ndarray,
    wrap: Callable[[Any], Any] = lambda function: function,
    channels_last: bool = False,
) -> Trainer:
    """See `benchmarks.peers`.

    Args:
        model: A name of `MODELS`.
        network: A name of `NETWORKS`.
        params: Parameters to start from.
        images: uint8 `[N, 28, 28]`.
        labels: int32 `[N]`.
        wrap: May compile the loss.
        channels_last: How convolutions keep their arrays in memory.
    """
    tensors = _tensors(model, network, params, channels_last)
    groups = [
        {
            "params": list(arrays.values()),
            "weight_decay": 0.0 if layer in MASK_HEADS else WEIGHT_DECAY,
        }
        for layer, arrays in tensors.items()
    ]
    optimizer = torch.optim.Adam(groups, lr=LEARNING_RATE, fused=True)
    all_images, all_labels = torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))

    @wrap
    def batch_loss(tensors: Tensors, images: Any, labels: Any) -> Any:
        noise = None
        if model == "dropmax":
            noise = torch.logit(torch.rand(BATCH_SIZE, NUM_CLASSES), eps=1e-7)
        return _mean_loss(_heads(tensors, network, images, True), labels, noise)

    order = torch.empty(0, dtype=torch.int64)

    def run(num_steps: int) -> None:
        nonlocal order
        for _ in range(num_steps):
            if len(order) < BATCH_SIZE:
                order = torch.randperm(len(labels))
            rows, order = order[:BATCH_SIZE], order[BATCH_SIZE:]
            optimizer.zero_grad(set_to_none=True)
            batch_loss(tensors, all_images[rows], all_labels[rows]).backward()
            optimizer.step()

    return Trainer(run, lambda: _to_numpy(network, tensors))


def loss_and_gradient(
    model: str,
    network: str,
    params: Params,
    images: np.ndarray,
    labels: np.ndarray,
    noise: np.ndarray,
    wrap: Callable[[Any], Any] = lambda function: function,
    channels_last: bool = False,
) -> tuple[float, Params]:
    """See `benchmarks.peers` and `make`."""
    tensors = _tensors(model, network, params, channels_last)

    @wrap
    def batch_loss(tensors: Tensors, images: Any, labels: Any, noise: Any) -> Any:
        return _mean_loss(_heads(tensors, network, images, False), labels, noise)

    batch = torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))
    loss = batch_loss(tensors, *batch, torch.from_numpy(noise))
    loss.backward()
    gradients = {
        layer: {kind: tensor.grad for kind, tensor in arrays.items()}
        for layer, arrays in tensors.items()
    }
    return loss.item(), _to_numpy(network, gradients)


def predictor(
    model: str,
    network: str,
    params: Params,
    images: np.ndarray,
    batch_size: int,
    wrap: Callable[[Any], Any] = lambda function: function,
    channels_last: bool = False,
) -> Callable[[], np.ndarray]:
    """See `benchmarks.peers` and `make`."""
    tensors = _tensors(model, network, params, channels_last)
    batches = torch.from_numpy(images).split(batch_size)

    @wrap
    def log_probs(images: Any) -> Any:
        heads = _heads(tensors, network, images, False)
        if model == "softmax":
            return F.log_softmax(heads["logits"], -1)
        return F.log_softmax(heads["logits"] + F.logsigmoid(heads["prior_logits"]), -1)

    def predict() -> np.ndarray:
        with torch.no_grad():
            return np.concatenate([log_probs(batch).numpy() for batch in batches])

    return predict


def _tensors(model: str, network: str, params: Params, channels_last: bool = False) -> Tensors:
    """The parameters in PyTorch's layout: output channels first, and `[C, H, W]` flattened."""
    parts = NETWORKS[network]
    channels, side = parts.features[1], parts.sides[1] // 2

    def tensor(layer: str, kind: str, value: np.ndarray) -> Any:
        if kind == "kernel" and layer.startswith("conv"):
            value = value.transpose(3, 2, 0, 1)
        elif kind == "kernel" and layer == "dense":
            value = value.reshape(side, side, channels, -1).transpose(3, 2, 0, 1)
            value = value.reshape(len(value), -1)
        elif kind == "kernel":
            value = value.T
        found = torch.from_numpy(np.array(value, order="C"))
        if channels_last and found.dim() == 4:
            # A convolution also takes the order of its arrays from its kernel.
            found = found.to(memory_format=torch.channels_last)
        return found.requires_grad_()

    return {
        layer: {kind: tensor(layer, kind, value) for kind, value in arrays.items()}
        for layer, arrays in params_of(model, params).items()
    }


def _to_numpy(network: str, tensors: Tensors) -> Params:
    """The inverse of `_tensors`."""
    parts = NETWORKS[network]
    channels, side = parts.features[1], parts.sides[1] // 2

    def array(layer: str, kind: str, tensor: Any) -> np.ndarray:
        value: np.ndarray = tensor.detach().numpy().copy()
        if kind == "bias":
            return value
        if layer.startswith("conv"):
            return value.transpose(2, 3, 1, 0)
        if layer == "dense":
            return (
                value.reshape(-1, channels, side, side)
                .transpose(2, 3, 1, 0)
                .reshape(parts.flat, -1)
            )
        return value.T

    return {
        layer: {kind: array(layer, kind, tensor) for kind, tensor in arrays.items()}
        for layer, arrays in tensors.items()
    }


def _heads(tensors: Tensors, network: str, images: Any, is_training: bool) -> dict[str, Any]:
    parts = NETWORKS[network]
    features = images[:, None].float() / 255
    for name in ("conv1", "conv2"):
        layer = tensors[name]
        features = F.conv2d(features, layer["kernel"], layer["bias"], padding=parts.padding)
        features = F.max_pool2d(F.relu(features), 2)
    features = F.relu(_dense(tensors["dense"], features.flatten(1)))
    if is_training and parts.dropout_rate:
        features = F.dropout(features, parts.dropout_rate)
    return {
        name: _dense(layer, features)
        for name, layer in tensors.items()
        if name not in ("conv1", "conv2", "dense")
    }


def _dense(layer: dict[str, Any], inputs: Any) -> Any:
    return F.linear(inputs, layer["kernel"], layer["bias"])


def _mean_loss(heads: dict[str, Any], labels: Any, noise: Any) -> Any:
    logits = heads["logits"]
    if len(heads) == 1:
        return F.cross_entropy(logits, labels)
    prior, label = heads["prior_logits"], heads["label_logits"]
    target = F.one_hot(labels, NUM_CLASSES)
    is_target, target = target.bool(), target.float()
    posterior = prior.detach() + label
    mask = torch.sigmoid((posterior + noise) / TEMPERATURE).masked_fill(is_target, 1.0)
    cross_entropy = F.cross_entropy(logits + torch.log(mask + EPSILON), labels)
    q, p = torch.sigmoid(posterior), torch.sigmoid(prior)
    log_p, log_not_p = F.logsigmoid(prior), F.logsigmoid(-prior)
    kl = q * (F.logsigmoid(posterior) - log_p) + (1 - q) * (F.logsigmoid(-posterior) - log_not_p)
    kl = torch.where(is_target, -log_p, kl)
    regression = F.binary_cross_entropy_with_logits(label, target, reduction="none")
    negative_entropy = p * log_p + (1 - p) * log_not_p
    return cross_entropy + (kl + regression + negative_entropy).sum(-1).mean()
