"""The recipe in TensorFlow 2, without Keras: a `tf.function` a step, and the fused Adam.

Images, shuffled order and the place in it stay in variables. So a step is a call without arguments,
the cheapest kind of call.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

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
    heads_of,
    params_of,
)

_BETA1, _BETA2, _ADAM_EPSILON = 0.9, 0.999, 1e-8


def make(
    model: str, network: str, params: Params, images: np.ndarray, labels: np.ndarray
) -> Trainer:
    """See `benchmarks.peers`."""
    variables = _variables(params_of(model, params))
    first_moments, second_moments = (
        [tf.Variable(tf.zeros_like(variable)) for _, variable in _named(variables)]
        for _ in range(2)
    )
    beta1_power, beta2_power = tf.Variable(_BETA1), tf.Variable(_BETA2)
    all_images, all_labels = tf.constant(images), tf.constant(labels)
    order, place = tf.Variable(tf.zeros(len(labels), tf.int32)), tf.Variable(0)

    @tf.function(autograph=False)
    def train_step() -> None:
        rows = tf.slice(order, [place], [BATCH_SIZE])
        pixels, batch_labels = _pixels(tf.gather(all_images, rows)), tf.gather(all_labels, rows)
        noise = _logistic_noise() if model == "dropmax" else None
        with tf.GradientTape() as tape:
            heads = _heads(variables, network, pixels, is_training=True)
            loss = _mean_loss(heads, batch_labels, noise)
        named = _named(variables)
        gradients = tape.gradient(loss, [variable for _, variable in named])
        # This operation adds ε before it corrects the second moment; the others add it after.
        epsilon = _ADAM_EPSILON * tf.sqrt(1 - beta2_power)
        for (layer, variable), gradient, first, second in zip(
            named, gradients, first_moments, second_moments, strict=True
        ):
            if layer not in MASK_HEADS:
                gradient = gradient + WEIGHT_DECAY * variable
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=beta1_power,
                beta2_power=beta2_power,
                lr=LEARNING_RATE,
                beta1=_BETA1,
                beta2=_BETA2,
                epsilon=epsilon,
                grad=gradient,
            )
        beta1_power.assign(beta1_power * _BETA1)
        beta2_power.assign(beta2_power * _BETA2)
        place.assign_add(BATCH_SIZE)

    random = np.random.default_rng(0)
    left = 0

    def run(num_steps: int) -> None:
        nonlocal left
        for _ in range(num_steps):
            if left < BATCH_SIZE:
                order.assign(random.permutation(len(labels)).astype(np.int32))
                place.assign(0)
                left = len(labels)
            train_step()
            left -= BATCH_SIZE
        # Reading a variable waits for the steps.
        place.numpy()

    def params_now() -> Params:
        return {
            layer: {kind: variable.numpy() for kind, variable in arrays.items()}
            for layer, arrays in variables.items()
        }

    return Trainer(run, params_now)


def loss_and_gradient(
    model: str,
    network: str,
    params: Params,
    images: np.ndarray,
    labels: np.ndarray,
    noise: np.ndarray,
) -> tuple[float, Params]:
    """See `benchmarks.peers`."""
    variables = _variables(params_of(model, params))
    with tf.GradientTape() as tape:
        heads = _heads(variables, network, _pixels(tf.constant(images)), is_training=False)
        loss = _mean_loss(heads, tf.constant(labels), tf.constant(noise))
    gradients = tape.gradient(loss, variables)
    return float(loss), {
        layer: {kind: gradient.numpy() for kind, gradient in arrays.items()}
        for layer, arrays in gradients.items()
    }


def predictor(
    model: str, network: str, params: Params, images: np.ndarray, batch_size: int
) -> Callable[[], np.ndarray]:
    """See `benchmarks.peers`."""
    variables = _variables(params_of(model, params))
    batches = tf.split(tf.constant(images), len(images) // batch_size)

    @tf.function(autograph=False)
    def log_probs(batch: Any) -> Any:
        heads = _heads(variables, network, _pixels(batch), is_training=False)
        if model == "softmax":
            return tf.nn.log_softmax(heads["logits"])
        return tf.nn.log_softmax(heads["logits"] + tf.math.log_sigmoid(heads["prior_logits"]))

    return lambda: np.concatenate([log_probs(batch).numpy() for batch in batches])


def _variables(params: Params) -> dict[str, dict[str, Any]]:
    return {
        layer: {kind: tf.Variable(value) for kind, value in arrays.items()}
        for layer, arrays in params.items()
    }


def _named(variables: dict[str, dict[str, Any]]) -> list[tuple[str, Any]]:
    """Each variable with the name of its layer."""
    return [
        (layer, variable) for layer, arrays in variables.items() for variable in arrays.values()
    ]


def _pixels(images: Any) -> Any:
    return tf.cast(images[..., None], tf.float32) / 255


def _heads(
    variables: dict[str, dict[str, Any]], network: str, pixels: Any, is_training: bool
) -> dict[str, Any]:
    parts = NETWORKS[network]
    features = pixels
    for name in ("conv1", "conv2"):
        layer = variables[name]
        padding = "SAME" if parts.padding else "VALID"
        features = tf.nn.conv2d(features, layer["kernel"], 1, padding)
        features = tf.nn.relu(tf.nn.bias_add(features, layer["bias"]))
        features = tf.nn.max_pool2d(features, 2, 2, "VALID")
    features = tf.nn.relu(_dense(variables["dense"], tf.reshape(features, [-1, parts.flat])))
    if is_training and parts.dropout_rate:
        features = tf.nn.dropout(features, parts.dropout_rate)
    return {
        name: _dense(variables[name], features) for name in heads_of("dropmax") if name in variables
    }


def _dense(layer: dict[str, Any], inputs: Any) -> Any:
    return tf.nn.bias_add(tf.matmul(inputs, layer["kernel"]), layer["bias"])


def _logistic_noise() -> Any:
    uniform = tf.random.uniform([BATCH_SIZE, NUM_CLASSES], 1e-7, 1.0)
    return tf.math.log(uniform) - tf.math.log1p(-uniform)


def _mean_loss(heads: dict[str, Any], labels: Any, noise: Any) -> Any:
    logits = heads["logits"]
    if len(heads) == 1:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tf.reduce_mean(losses)
    prior, label = heads["prior_logits"], heads["label_logits"]
    target = tf.one_hot(labels, NUM_CLASSES)
    is_target = tf.cast(target, tf.bool)
    posterior = tf.stop_gradient(prior) + label
    mask = tf.where(is_target, 1.0, tf.sigmoid((posterior + noise) / TEMPERATURE))
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels, logits + tf.math.log(mask + EPSILON)
    )
    # The cross-entropies of q with p, of p with p and of q with q give both divergences.
    q, p = tf.sigmoid(posterior), tf.sigmoid(prior)
    kl = _binary_cross_entropy(q, prior) - _binary_cross_entropy(q, posterior)
    kl = tf.where(is_target, tf.nn.softplus(-prior), kl)
    regression = _binary_cross_entropy(target, label)
    negative_entropy = -_binary_cross_entropy(p, prior)
    terms = tf.reduce_sum(kl + regression + negative_entropy, -1)
    return tf.reduce_mean(cross_entropy + terms)


def _binary_cross_entropy(probability: Any, logits: Any) -> Any:
    return tf.nn.sigmoid_cross_entropy_with_logits(probability, logits)
