r"""DropMax on logits: the mask multiplies a class's logit, and not its exponential.

A dropped class thus has the logit 0. All else is DropMax, so that a comparison of the two shows
what the place of the mask is worth. (The report below used an earlier form of the paper, whose loss
has neither r nor the KL divergence.)

References:
    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_,
    NeurIPS 2018, section 4 (all of the loss but the place of the mask).

    Report on DropMax of the ICLR 2018 reproducibility challenge, with code at
    `<https://github.com/jamesal1/DropMax>`_, "adaptive dropmax (drop logit)".
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks
from dropmax_jax.concrete import log_sigmoid, sample_log_mask
from dropmax_jax.dropmax import dropmax_loss_terms, posterior_logits
from dropmax_jax.heads import Heads, head_arrays
from dropmax_jax.method import Method, Terms
from dropmax_jax.methods.softmax import cross_entropy


def dropmax_logit_loss_and_terms(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike = 0.1
) -> tuple[jax.Array, Terms]:
    r"""DropMax's loss and terms, for a mask on logits that is drawn from the posterior.

    With t the label and :math:`z_t = 1`, the cross-entropy is

    .. math::
        -\log \frac{\exp(o_t)}{\sum_k \exp(z_k o_k)};

    the other terms are those of `dropmax_jax.dropmax_loss_terms`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.dropmax_logit import dropmax_logit_loss_and_terms
        >>> heads = Heads(jnp.ones((8, 10)), jnp.ones((8, 10)), jnp.zeros((8, 10)))
        >>> loss, terms = dropmax_logit_loss_and_terms(jax.random.key(0), heads, jnp.arange(8))
        >>> list(terms)
        ['cross_entropy', 'kl_divergence', 'label_regression', 'prior_negative_entropy']
    """
    log_mask = sample_log_mask(key, posterior_logits(heads), temperature)
    terms = dropmax_loss_terms(heads, labels, log_mask)
    is_target = _checks.target_mask(labels, log_mask, "logits")
    logits, *_ = head_arrays(heads, *Heads._fields)
    masked = _masked(logits, jnp.where(is_target, 0.0, log_mask))
    terms = terms._replace(cross_entropy=cross_entropy(masked, labels))
    return terms.total, terms._asdict()


def dropmax_logit_log_probs(heads: Heads) -> jax.Array:
    r"""Log-probabilities `[..., K]` from the mean of the mask: log-softmax of :math:`\rho o`.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.dropmax_logit import dropmax_logit_log_probs
        >>> heads = Heads(jnp.array([2.0, 2.0]), jnp.array([20.0, -20.0]))  # ρ is almost 1, and 0
        >>> print(dropmax_logit_log_probs(heads).round(3))  # the softmax of 2 and 0
        [-0.127 -2.127]
    """
    logits, prior = head_arrays(heads, "logits", "prior_logits")
    return jax.nn.log_softmax(_masked(logits, log_sigmoid(prior)))


def sample_dropmax_logit_log_probs(
    key: jax.Array, heads: Heads, num_samples: int, *, temperature: ArrayLike = 0.1
) -> jax.Array:
    """Log-probabilities `[num_samples, ..., K]` under masks drawn from the prior.

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
    log_mask = sample_log_mask(key, prior, temperature)
    return jax.nn.log_softmax(_masked(jnp.broadcast_to(logits, prior.shape), log_mask))


def _masked(logits: jax.Array, log_mask: jax.Array) -> jax.Array:
    """The logits times the mask, which does not bring back a class that does not exist."""
    logits = _checks.bounded_below(logits)
    return jnp.where(_checks.exists(logits), logits * jnp.exp(log_mask), logits)


METHOD = Method(
    heads=("logits", "prior_logits", "label_logits"),
    loss_and_terms=dropmax_logit_loss_and_terms,
    predict=dropmax_logit_log_probs,
    sample_log_probs=sample_dropmax_logit_log_probs,
)
