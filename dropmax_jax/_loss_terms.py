"""The terms of the loss as they are defined, for arrays that are checked and of one dtype."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from dropmax_jax.concrete import (
    bernoulli_kl,
    bernoulli_negative_entropy,
    log_add_constant,
    log_sigmoid,
)


def loss_terms(
    is_target: Array,
    log_mask: Array,
    logits: Array,
    prior: Array,
    label: Array,
    log_epsilon: float,
) -> tuple[Array, Array, Array, Array]:
    """The terms `[...]`, in the order of `LossTerms`, of a mask `[..., K]`."""
    masked = masked_logits(logits, jnp.where(is_target, 0.0, log_mask), log_epsilon)
    # The target's masked logit, read from the logits: the masked ones need not be kept for this.
    target_logit = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
    posterior = jax.lax.stop_gradient(prior) + label
    kl = jnp.where(is_target, -log_sigmoid(prior), bernoulli_kl(posterior, prior))
    return (
        jax.nn.logsumexp(masked, axis=-1) - target_logit - math.log1p(math.exp(log_epsilon)),
        jnp.sum(kl, axis=-1),
        -jnp.sum(log_sigmoid(jnp.where(is_target, label, -label)), axis=-1),
        jnp.sum(bernoulli_negative_entropy(prior), axis=-1),
    )


def masked_logits(logits: Array, log_mask: Array, log_epsilon: float) -> Array:
    """Logits + log(mask + ε)."""
    if log_epsilon == -math.inf:
        return logits + log_mask
    return logits + log_add_constant(log_mask, jnp.asarray(log_epsilon, log_mask.dtype))
