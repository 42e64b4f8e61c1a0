"""How uncertain predictions are."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks


def predictive_entropy(log_probs: ArrayLike) -> jax.Array:
    """Entropy of the predicted distribution of each example, in nats.

    Returns:
        The entropy `[...]`, from 0 to log K.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import predictive_entropy
        >>> print(predictive_entropy(jnp.log(jnp.array([[0.5, 0.5], [1.0, 0.0]]))).round(4))
        [0.6931 0.    ]
    """
    (array,) = _checks.promote(_checks.class_array("log_probs", log_probs))
    _checks.log_probabilities("log_probs", log_probs)
    return _entropy(array)


def mean_log_probs(sampled_log_probs: ArrayLike) -> jax.Array:
    r"""Log of the mean of probabilities over samples.

    .. math::
        \log p(y \mid x) \approx \log \frac{1}{S} \sum_{s=1}^{S} p(y \mid x, \omega_s)

    Returns:
        Log-probabilities `[..., K]`, in nats; float64 if the argument is, else float32.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import mean_log_probs
        >>> samples = jnp.log(jnp.array([[0.9, 0.1], [0.5, 0.5]]))
        >>> print(mean_log_probs(samples).round(4))  # log 0.7 and log 0.3
        [-0.3567 -1.204 ]

    References:
        Gal and Ghahramani, `Dropout as a Bayesian Approximation: Representing Model Uncertainty in
        Deep Learning <https://arxiv.org/abs/1506.02142>`_, ICML 2016, section 4.
    """
    (array,) = _checks.promote(_checks.class_array("sampled_log_probs", sampled_log_probs))
    if array.ndim < 2 or array.shape[0] == 0:
        raise ValueError(
            "sampled_log_probs must have shape [S, ..., K] with at least one sample, "
            f"but has shape {array.shape}"
        )
    _checks.log_probabilities("sampled_log_probs", sampled_log_probs)
    return jax.nn.logsumexp(array, axis=0) - math.log(array.shape[0])


def mutual_information(sampled_log_probs: ArrayLike) -> jax.Array:
    """How much sampled predictions of one example disagree, in nats (BALD).

    The mutual information of the class and what was sampled: the entropy of the mean prediction
    less the mean entropy of the predictions.

    Returns:
        The mutual information `[...]`, from 0 to log min(S, K).

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import mutual_information
        >>> sure_but_contrary = jnp.log(jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
        >>> print(mutual_information(sure_but_contrary).round(4))
        [0.6931]

    References:
        Houlsby et al., `Bayesian Active Learning for Classification and Preference Learning
        <https://arxiv.org/abs/1112.5745>`_, 2011, equation 2.
    """
    mean = mean_log_probs(sampled_log_probs)
    (array,) = _checks.promote(jnp.asarray(sampled_log_probs))
    mean_entropy = jnp.mean(_entropy(array), axis=0)
    information = _entropy(mean) - mean_entropy
    # Negative only by rounding.
    return jnp.maximum(information, 0.0)


def _entropy(log_probs: jax.Array) -> jax.Array:
    probs = jnp.exp(log_probs)
    return jnp.abs(jnp.sum(probs * jnp.where(probs > 0.0, log_probs, 0.0), axis=-1))
