"""The terms of the loss as they are defined, for arrays that are checked and of one dtype."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from dropmax_jax import _checks
from dropmax_jax._classes import Classes
from dropmax_jax.concrete import (
    bernoulli_kl,
    bernoulli_negative_entropy,
    log_add_constant,
    log_complement,
    log_sigmoid,
)


class LossTerms(NamedTuple):
    """The four terms of the loss, per example `[...]`, in nats.

    Attributes:
        cross_entropy: -log p(y|x, z) for the mask given.
        kl_divergence: KL(q(z|x, y) ‖ p(z|x)), summed over classes.
        label_regression: Binary cross-entropy of r(x) and the one-hot label, summed over classes.
        prior_negative_entropy: Negative entropy of the prior p(z|x), summed over classes.
    """

    cross_entropy: jax.Array
    kl_divergence: jax.Array
    label_regression: jax.Array
    prior_negative_entropy: jax.Array

    @property
    def total(self) -> jax.Array:
        """The loss that training minimises, the sum of the four."""
        return self.cross_entropy + sum(self[1:])


def loss_terms(
    classes: Classes,
    target: Array,
    log_mask: Array,
    logits: Array,
    prior: Array,
    label: Array,
    log_epsilon: float,
    count: Array | None = None,
) -> tuple[Array, Array, Array, Array]:
    """The terms `[...]`, in the order of `LossTerms`, for a mask `[..., K]`.

    Args:
        classes: How to reduce over them.
        target: Booleans `[..., K]`, true for the label, or the labels' probabilities.
        log_mask: log z.
        logits: As `prior` and `label`, a head.
        prior: Logits of ρ.
        label: Logits of r.
        log_epsilon: log ε.
        count: How many classes each example has, `[...]`; None for all.
    """
    of_target, of_other = classes.regression_weights(logits.shape[-1], count)
    logits = _checks.bounded_below(logits)
    posterior = jax.lax.stop_gradient(prior) + label
    kl = bernoulli_kl(posterior, prior)
    if target.dtype == jnp.bool_:
        masked = masked_logits(logits, jnp.where(target, 0.0, log_mask), log_epsilon)
        # The target's masked logit, read from the logits: the masked ones need not be kept.
        target_logit = classes.sum(jnp.where(target, logits, 0.0))
        cross_entropy = classes.logsumexp(masked)[..., 0] - target_logit
        cross_entropy -= math.log1p(math.exp(log_epsilon))
        kl = jnp.where(target, -log_sigmoid(prior), kl)
        regression = jnp.where(target, of_target, of_other)
        regression *= -log_sigmoid(jnp.where(target, label, -label))
    else:
        # Were k the label, z_k would be 1: the sum over classes would grow by o_k's share 1 - z_k.
        log_total = classes.logsumexp(masked_logits(logits, log_mask, log_epsilon))
        log_totals = jnp.logaddexp(log_total, logits + log_complement(log_mask))
        nll = log_totals - logits - math.log1p(math.exp(log_epsilon))
        cross_entropy = classes.sum(target * nll)
        kl = target * -log_sigmoid(prior) + (1.0 - target) * kl
        regression = of_target * target * -log_sigmoid(label)
        regression += of_other * (1.0 - target) * -log_sigmoid(-label)
    return (
        cross_entropy,
        classes.sum(kl),
        classes.sum(regression),
        classes.sum(bernoulli_negative_entropy(prior)),
    )


def masked_logits(logits: Array, log_mask: Array, log_epsilon: float) -> Array:
    """Logits + log(mask + ε)."""
    if log_epsilon == -math.inf:
        return logits + log_mask
    return logits + log_add_constant(log_mask, jnp.asarray(log_epsilon, log_mask.dtype))
