"""Tracing refuses wrong arguments of the losses of linear heads, and names them."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from dropmax_jax import (
    Heads,
    dropmax_linear_log_probs,
    dropmax_linear_loss,
    dropmax_linear_top_k,
    softmax_linear_loss,
)

KEY = jax.random.key(0)
X, Y = jnp.zeros((8, 4)), jnp.zeros(8, jnp.int32)
W = jnp.zeros((4, 10))
KERNELS = Heads(W, W, W)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"features": 1.0}, ValueError, "features must have shape [..., D], but have shape ()"),
        ({"features": Y}, TypeError, "features must be a floating-point array, but has dtype"),
        (
            {"labels": Y[:3]},
            ValueError,
            "labels must have shape (8,), that of features without the feature axis, but has",
        ),
        ({"balanced": 1}, TypeError, "balanced must be True or False, but is 1"),
        ({"labels": X}, TypeError, "labels must be an integer array, but has dtype float32"),
        ({"kernels": W}, TypeError, "kernels must be a dropmax_jax.Heads, but is a JAX array"),
        ({"kernels": Heads(W, W)}, TypeError, "kernels.label_logits must be a floating-point"),
        (
            {"kernels": Heads(W, W.T, W)},
            ValueError,
            "kernels.prior_logits must have shape (4, K), but has shape (10, 4)",
        ),
        (
            {"kernels": Heads(W, W, W[:, :9])},
            ValueError,
            "kernels.label_logits must be for 10 classes, as kernels.logits, but has shape (4, 9)",
        ),
        (
            {"kernels": Heads(W, (W[:, :2], W), W)},
            ValueError,
            "kernels.prior_logits[1] must have shape (2, K), but has shape (4, 10)",
        ),
        (
            {"kernels": Heads(W, (W,), W)},
            ValueError,
            "kernels.prior_logits must be an array or two factors, but has 1 parts",
        ),
        (
            {"biases": Heads(X[0], X[0], X[0])},
            ValueError,
            "biases.logits must have shape (10,), but has shape (4,)",
        ),
        ({"block_size": 512}, TypeError, "block_size must be two integers, of examples and of"),
        ({"block_size": (0, 5)}, ValueError, "block_size must be at least 1, but is 0"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing must be from 0 to 1, but is 1.5"),
        ({"label_smoothing": Y}, TypeError, "label_smoothing must be a Python number, but is"),
        ({"where": X > 0}, ValueError, "where must have shape (8,), for examples, or (8, 10)"),
        ({"axis_name": "model"}, ValueError, "axis_name must be an axis of the jax.shard_map"),
        ({"temperature": 0.0}, ValueError, "temperature must be positive and finite"),
        ({"weights": 1.0}, TypeError, "weights must be a LossTerms, but is a float"),
    ],
)
def test_the_loss(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"features": X, "labels": Y, "kernels": KERNELS} | changes
    with pytest.raises(error, match=re.escape(message)):
        jax.eval_shape(lambda: dropmax_linear_loss(KEY, **arguments))


def test_the_softmax_names_its_own_arguments() -> None:
    with pytest.raises(ValueError, match=re.escape("kernel must have shape (4, K)")):
        softmax_linear_loss(X, Y, W.T)
    with pytest.raises(ValueError, match=re.escape("bias must have shape (10,)")):
        softmax_linear_loss(X, Y, W, X[0])


def test_predictions() -> None:
    with pytest.raises(ValueError, match=re.escape("k must be at most the 10 classes")):
        dropmax_linear_top_k(X, 11, KERNELS)
    with pytest.raises(ValueError, match=re.escape("classes must have shape (8, C), C classes")):
        dropmax_linear_log_probs(X, Y, KERNELS)
    with pytest.raises(TypeError, match="classes must be an integer array"):
        dropmax_linear_log_probs(X, X, KERNELS)
