"""DropMax, the adaptive variational softmax.

References:
    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_,
    NeurIPS 2018, section 4 and table 1 (row "DropMax").
"""

import jax
from jax.typing import ArrayLike

from dropmax_jax.dropmax import dropmax_loss_and_terms
from dropmax_jax.heads import Heads
from dropmax_jax.method import Method, Terms
from dropmax_jax.prediction import dropmax_log_probs, sample_dropmax_log_probs


def _loss_and_terms(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike = 0.1
) -> tuple[jax.Array, Terms]:
    loss, terms = dropmax_loss_and_terms(key, heads, labels, temperature=temperature)
    return loss, terms._asdict()


METHOD = Method(
    heads=("logits", "prior_logits", "label_logits"),
    loss_and_terms=_loss_and_terms,
    predict=dropmax_log_probs,
    sample_log_probs=sample_dropmax_log_probs,
)
