"""The ordinary softmax classifier, the baseline of the paper's table.

References:
    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_,
    NeurIPS 2018, table 1 (row "Base Softmax").

    Bridle, Training Stochastic Model Recognition Algorithms as Networks can Lead to Maximum Mutual
    Information Estimation of Parameters, NeurIPS 1989.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks
from dropmax_jax.heads import Heads, head_arrays
from dropmax_jax.method import Method, SingleTerm


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """-log softmax of logits `[..., K]` at the label, per example `[...]`, in nats; for methods.

    For labels that are probabilities, it is the mean over labels.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.methods.softmax import cross_entropy
        >>> print(f"{cross_entropy(jnp.zeros(2), 1):.4f}")
        0.6931
    """
    (logits,) = _checks.promote(_checks.class_array("logits", logits))
    target = _checks.target(labels, logits, "logits").astype(logits.dtype)
    margins = jax.nn.logsumexp(logits, axis=-1, keepdims=True) - logits
    # No product with a margin that is infinite, unless the class is the label.
    counts = (target > 0.0) | (margins < jnp.inf)
    return jnp.sum(jnp.where(counts, target * margins, 0.0), axis=-1)


def softmax_loss(key: jax.Array, heads: Heads, labels: ArrayLike) -> jax.Array:
    """Cross-entropy of `heads.logits`, per example `[...]`, in nats; `key` is not used."""
    del key
    (logits,) = head_arrays(heads, "logits")
    return cross_entropy(logits, labels)


def softmax_log_probs(heads: Heads) -> jax.Array:
    """Log-softmax of `heads.logits`, `[..., K]`."""
    (logits,) = head_arrays(heads, "logits")
    return jax.nn.log_softmax(logits)


METHOD = Method(
    heads=("logits",),
    loss_and_terms=SingleTerm("cross_entropy", softmax_loss),
    predict=softmax_log_probs,
)
