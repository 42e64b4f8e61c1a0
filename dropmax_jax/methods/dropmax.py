"""DropMax, the adaptive variational softmax.

References:
    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_,
    NeurIPS 2018, section 4 and table 1 (row "DropMax").
"""

from typing import Any

import jax
from jax.typing import ArrayLike

from dropmax_jax.concrete import sample_log_mask
from dropmax_jax.dropmax import (
    Heads,
    dropmax_log_probs,
    dropmax_loss,
    dropmax_loss_terms,
    posterior_logits,
    sample_dropmax_log_probs,
)
from dropmax_jax.methods.method import Method


def _loss(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike = 0.1
) -> jax.Array:
    return dropmax_loss(key, heads, labels, temperature=temperature)


def _loss_terms(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike = 0.1
) -> dict[str, jax.Array]:
    log_mask = sample_log_mask(key, posterior_logits(heads), temperature)
    return dropmax_loss_terms(heads, labels, log_mask)._asdict()


def mean_mask_log_probs(heads: Heads, fitted: Any = None) -> jax.Array:
    """`dropmax_log_probs` in the form that a `Method` has."""
    del fitted
    return dropmax_log_probs(heads)


dropmax = Method(
    heads=("logits", "prior_logits", "label_logits"),
    loss=_loss,
    log_probs=mean_mask_log_probs,
    loss_terms=_loss_terms,
    sample_log_probs=sample_dropmax_log_probs,
)
