r"""DropMax on logits: the mask multiplies a class's logit, and not its exponential.

A dropped class thus has the logit 0. All else is DropMax, so that a comparison of the two tells
what the place of the mask is worth. (The report below had an earlier form of the paper to go by,
whose loss has neither r nor the KL divergence.)

References:
    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_,
    NeurIPS 2018, section 4 (all of the loss but the place of the mask).

    Report on DropMax of the ICLR 2018 reproducibility challenge, with code at
    `<https://github.com/jamesal1/DropMax>`_, "adaptive dropmax (drop logit)".
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks
from dropmax_jax.concrete import log_sigmoid, sample_log_mask
from dropmax_jax.dropmax import (
    Heads,
    LossTerms,
    dropmax_loss_terms,
    head_arrays,
    posterior_logits,
)
from dropmax_jax.methods.method import Method
from dropmax_jax.methods.softmax import cross_entropy


def dropmax_logit_loss_terms(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike = 0.1
) -> dict[str, jax.Array]:
    r"""The terms of DropMax's loss, for a mask on logits that is drawn from the posterior.

    With t the label and :math:`z_t = 1`, the cross-entropy is

    .. math::
        -\log \frac{\exp(o_t)}{\sum_k \exp(z_k o_k)};

    the other terms are those of `dropmax_jax.dropmax_loss_terms`.

    Args:
        key: A random key, another one each step.
        heads: All three heads, `[..., K]`.
        labels: Class of each example, integers `[...]` in [0, K); undefined result otherwise.
        temperature: τ of the relaxed mask, a positive scalar. A number is checked; a JAX array,
            traced or not, isn't.

    Returns:
        The four terms, per example `[...]`, in nats; float64 if a head is, else float32.

    Raises:
        ValueError: A head is missing, shapes do not fit, there is no class, or the temperature is
            not positive.
        TypeError: `key` is no key, a head is not floating point, or labels are not integers.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.dropmax_logit import dropmax_logit_loss_terms
        >>> heads = Heads(jnp.ones((8, 10)), jnp.ones((8, 10)), jnp.zeros((8, 10)))
        >>> terms = dropmax_logit_loss_terms(jax.random.key(0), heads, jnp.arange(8))
        >>> list(terms)
        ['cross_entropy', 'kl_divergence', 'label_regression', 'prior_negative_entropy']
    """
    log_mask = sample_log_mask(key, posterior_logits(heads), temperature)
    terms = dropmax_loss_terms(heads, labels, log_mask)
    is_target = _checks.target_mask(labels, log_mask.shape, "logits")
    logits, *_ = head_arrays(heads, *Heads._fields)
    masked = logits * jnp.exp(jnp.where(is_target, 0.0, log_mask))
    return terms._replace(cross_entropy=cross_entropy(masked, labels))._asdict()


def dropmax_logit_loss(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike = 0.1
) -> jax.Array:
    """The sum of `dropmax_logit_loss_terms`, which has the arguments and errors, `[...]` in nats.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.dropmax_logit import dropmax_logit_loss
        >>> heads = Heads(jnp.ones((8, 10)), jnp.ones((8, 10)), jnp.zeros((8, 10)))
        >>> dropmax_logit_loss(jax.random.key(0), heads, jnp.arange(8)).shape
        (8,)
    """
    return LossTerms(**dropmax_logit_loss_terms(key, heads, labels, temperature=temperature)).total


def dropmax_logit_log_probs(heads: Heads, fitted: Any = None) -> jax.Array:
    r"""Log-probabilities at test time, from the mean of the mask: log-softmax of :math:`\rho o`.

    Args:
        heads: Heads with `logits` o and `prior_logits`, the logits of ρ, `[..., K]`.
        fitted: Not used.

    Returns:
        Log-probabilities `[..., K]`, in nats; float64 if a head is, else float32.

    Raises:
        ValueError: A head is missing or of another shape, or there is no class.
        TypeError: `heads` is no Heads, or a head is not floating point.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.dropmax_logit import dropmax_logit_log_probs
        >>> heads = Heads(jnp.array([2.0, 2.0]), jnp.array([20.0, -20.0]))  # ρ is almost 1, and 0
        >>> print(dropmax_logit_log_probs(heads).round(3))  # the softmax of 2 and 0
        [-0.127 -2.127]
    """
    del fitted
    logits, prior = head_arrays(heads, "logits", "prior_logits")
    return jax.nn.log_softmax(logits * jnp.exp(log_sigmoid(prior)))


def sample_dropmax_logit_log_probs(
    key: jax.Array, heads: Heads, num_samples: int, *, temperature: ArrayLike = 0.1
) -> jax.Array:
    """Log-probabilities under masks drawn from the prior, `[num_samples, ..., K]`, in nats.

    Args:
        key: A random key.
        heads: Heads with `logits` and `prior_logits`, `[..., K]`.
        num_samples: Number of masks, a Python integer of at least 1.
        temperature: τ of the relaxed mask, a positive scalar. A number is checked; a JAX array,
            traced or not, isn't.

    Returns:
        Log-probabilities `[num_samples, ..., K]`; float64 if a head is, else float32.

    Raises:
        ValueError: A head is missing or of another shape, there is no class, or `num_samples` or
            `temperature` is out of range.
        TypeError: `key` is no key, a head is not floating point, or `num_samples` no integer.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.dropmax_logit import sample_dropmax_logit_log_probs
        >>> heads = Heads(jnp.ones((8, 10)), jnp.ones((8, 10)))
        >>> sample_dropmax_logit_log_probs(jax.random.key(0), heads, 5).shape
        (5, 8, 10)
    """
    num_samples = _checks.positive_int("num_samples", num_samples)
    logits, prior = head_arrays(heads, "logits", "prior_logits")
    prior = jnp.broadcast_to(prior, (num_samples, *prior.shape))
    mask = jnp.exp(sample_log_mask(key, prior, temperature))
    return jax.nn.log_softmax(logits[None] * mask)


dropmax_logit = Method(
    heads=("logits", "prior_logits", "label_logits"),
    loss=dropmax_logit_loss,
    log_probs=dropmax_logit_log_probs,
    loss_terms=dropmax_logit_loss_terms,
    sample_log_probs=sample_dropmax_logit_log_probs,
)
