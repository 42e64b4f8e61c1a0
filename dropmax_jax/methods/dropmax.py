"""DropMax, the adaptive variational softmax.

References:
    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_,
    NeurIPS 2018, section 4 and table 1 (row "DropMax").
"""

from collections.abc import Callable
from functools import partial

import jax
from jax.typing import ArrayLike

from dropmax_jax._loss_terms import LossTerms
from dropmax_jax.dropmax import dropmax_loss_and_terms
from dropmax_jax.heads import Heads
from dropmax_jax.method import Method, Terms
from dropmax_jax.prediction import dropmax_log_probs, sample_dropmax_log_probs


def _loss_and_terms(
    function: Callable[..., tuple[jax.Array, LossTerms]],
    key: jax.Array,
    heads: Heads,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = 0.1,
) -> tuple[jax.Array, Terms]:
    loss, terms = function(key, heads, labels, temperature=temperature)
    return loss, terms._asdict()


def method_of(function: Callable[..., tuple[jax.Array, LossTerms]]) -> Method:
    """The method that trains on `dropmax_loss_and_terms`, or on a function like it."""
    return Method(
        heads=Heads._fields,
        loss_and_terms=partial(_loss_and_terms, function),
        predict=dropmax_log_probs,
        sample_log_probs=sample_dropmax_log_probs,
    )


METHOD = method_of(dropmax_loss_and_terms)
