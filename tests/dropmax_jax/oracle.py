"""The paper's formulas as it writes them, in NumPy, to test the library against.

They take complex numbers, so that a derivative is the imaginary part of a small imaginary step,
exact to the last digits. They overflow where the library must not: keep the logits moderate.
"""

import importlib
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from dropmax_jax import Heads

Array = NDArray[Any]


def enable_x64(new_val: bool = True) -> Any:
    """`jax.enable_x64`, which jax before 0.8 has elsewhere."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(new_val)
    experimental = importlib.import_module("jax.experimental")
    return experimental.enable_x64(new_val)


def sigmoid(a: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-a)))


def log_softmax(a: Array) -> Array:
    a = a - a.real.max(-1, keepdims=True)
    return np.asarray(a - np.log(np.exp(a).sum(-1, keepdims=True)))


def one_hot(labels: Array, num_classes: int) -> Array:
    return np.asarray(np.arange(num_classes) == np.asarray(labels)[..., None])


def bernoulli_kl(a: Array, b: Array) -> Array:
    q, p = sigmoid(a), sigmoid(b)
    return np.asarray(q * np.log(q / p) + sigmoid(-a) * np.log(sigmoid(-a) / sigmoid(-b)))


def negative_entropy(b: Array) -> Array:
    return np.asarray(sigmoid(b) * np.log(sigmoid(b)) + sigmoid(-b) * np.log(sigmoid(-b)))


def loss_terms(
    o: Array,
    prior: Array,
    label: Array,
    y: Array,
    noise: Array,
    temperature: float,
    epsilon: float,
    prior_in_posterior: Array | None = None,
) -> dict[str, Array]:
    """The four terms; the prior within the posterior is a separate, constant argument."""
    target = one_hot(y, o.shape[-1])
    posterior = (prior if prior_in_posterior is None else prior_in_posterior) + label
    mask = np.where(target, 1.0, sigmoid((posterior + noise) / temperature))
    log_probs = log_softmax(o + np.log(mask + epsilon))
    kl = np.where(target, -np.log(sigmoid(prior)), bernoulli_kl(posterior, prior))
    return {
        "cross_entropy": -np.where(target, log_probs, 0.0).sum(-1),
        "kl_divergence": kl.sum(-1),
        "label_regression": -np.log(sigmoid(np.where(target, label, -label))).sum(-1),
        "prior_negative_entropy": negative_entropy(prior).sum(-1),
    }


def mean_loss_gradients(
    o: Array, prior: Array, label: Array, y: Array, noise: Array, temperature: float, epsilon: float
) -> list[Array]:
    """Derivatives of the mean loss in the three heads, by complex steps of 1e-30."""
    heads, step = (o, prior, label), 1e-30
    num_classes, gradients = o.shape[-1], []
    for which in range(3):
        gradient = np.zeros(o.shape)
        for k in range(num_classes):
            moved = [head.astype(complex) for head in heads]
            moved[which][..., k] += 1j * step
            o_moved, prior_moved, label_moved = moved
            terms = loss_terms(
                o_moved, prior_moved, label_moved, y, noise, temperature, epsilon, prior
            )
            gradient[..., k] = sum(np.imag(term) for term in terms.values()) / step
        gradients.append(gradient / y.size)
    return gradients


def predict(o: Array, prior: Array, epsilon: float) -> Array:
    return log_softmax(o + np.log(sigmoid(prior) + epsilon))


def random_heads(seed: int, shape: tuple[int, ...], scale: float = 2.0) -> Heads:
    """Three heads of normal float32 numbers."""
    draws = np.random.default_rng(seed).normal(scale=scale, size=(3, *shape)).astype(np.float32)
    return Heads(*map(jax.numpy.asarray, draws))
