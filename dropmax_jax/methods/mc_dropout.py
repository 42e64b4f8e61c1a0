"""Monte Carlo dropout: a softmax whose network keeps dropping units at test time.

The dropout is the network's: half of the units before the heads, in training and in each of the
passes whose probabilities are averaged. See `dropout_rate` and `num_samples` of the `Method`.

References:
    Gal and Ghahramani, `Dropout as a Bayesian Approximation: Representing Model Uncertainty in
    Deep Learning <https://arxiv.org/abs/1506.02142>`_, ICML 2016.
"""

import math

import jax
from jax.typing import ArrayLike

from dropmax_jax import _checks
from dropmax_jax.methods.method import Method
from dropmax_jax.methods.softmax import softmax_log_probs, softmax_loss


def mean_log_probs(sampled_log_probs: ArrayLike) -> jax.Array:
    r"""Log of the mean of probabilities over samples.

    .. math::
        \log p(y \mid x) \approx \log \frac{1}{S} \sum_{s=1}^{S} p(y \mid x, \omega_s)

    Args:
        sampled_log_probs: Log-probabilities `[S, ..., K]`, a sample each along the first axis.

    Returns:
        Log-probabilities `[..., K]`, in nats; float64 if the argument is, else float32.

    Raises:
        ValueError: There are fewer than two axes, or no sample or class.
        TypeError: `sampled_log_probs` is not floating point.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.methods.mc_dropout import mean_log_probs
        >>> samples = jnp.log(jnp.array([[0.9, 0.1], [0.5, 0.5]]))
        >>> print(mean_log_probs(samples).round(4))  # log 0.7 and log 0.3
        [-0.3567 -1.204 ]

    References:
        Gal and Ghahramani 2016, section 4 (Monte Carlo estimates of the predictive distribution).
    """
    (array,) = _checks.promote(_checks.class_array("sampled_log_probs", sampled_log_probs))
    if array.ndim < 2 or array.shape[0] == 0:
        raise ValueError(
            "sampled_log_probs must have shape [S, ..., K] with at least one sample, "
            f"but has shape {array.shape}"
        )
    return jax.nn.logsumexp(array, axis=0) - math.log(array.shape[0])


mc_dropout = Method(
    heads=("logits",),
    loss=softmax_loss,
    log_probs=softmax_log_probs,
    loss_name="cross_entropy",
    dropout_rate=0.5,
    num_samples=50,
)
