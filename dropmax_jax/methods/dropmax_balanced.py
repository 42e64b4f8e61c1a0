"""DropMax for many classes, with a balanced regression of the label; see `dropmax_jax.balanced`."""

import jax
from jax.typing import ArrayLike

from dropmax_jax.balanced import dropmax_balanced_loss_and_terms
from dropmax_jax.heads import Heads
from dropmax_jax.method import Method, Terms
from dropmax_jax.prediction import dropmax_log_probs, sample_dropmax_log_probs


def _loss_and_terms(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike = 0.1
) -> tuple[jax.Array, Terms]:
    loss, terms = dropmax_balanced_loss_and_terms(key, heads, labels, temperature=temperature)
    return loss, terms._asdict()


METHOD = Method(
    heads=("logits", "prior_logits", "label_logits"),
    loss_and_terms=_loss_and_terms,
    predict=dropmax_log_probs,
    sample_log_probs=sample_dropmax_log_probs,
)
