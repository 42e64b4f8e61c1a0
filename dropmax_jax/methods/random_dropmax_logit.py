"""Random DropMax on logits: a dropped class has the logit 0, and not the probability 0.

References:
    Report on DropMax of the ICLR 2018 reproducibility challenge, with code at
    `<https://github.com/jamesal1/DropMax>`_, "random dropmax (drop logit)".
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks
from dropmax_jax.heads import Heads, head_arrays
from dropmax_jax.method import Method, SingleTerm
from dropmax_jax.methods.class_dropout import sample_retained_classes
from dropmax_jax.methods.softmax import cross_entropy, softmax_log_probs


def random_dropmax_logit_loss(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, retain_probability: ArrayLike = 0.4
) -> jax.Array:
    r"""Cross-entropy `[...]` where the logits of classes are set to 0 at random.

    With :math:`z_t = 1` for the label t and :math:`z_k` drawn for the others by
    `sample_retained_classes`,

    .. math::
        -\log \frac{\exp(o_t)}{\sum_k \exp(z_k o_k)}.

    The report tries retain probabilities of 0.2, 0.4 and 0.6, and its code predicts with the
    ordinary softmax.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.random_dropmax_logit import random_dropmax_logit_loss
        >>> heads, labels = Heads(jnp.ones((8, 10))), jnp.arange(8)
        >>> random_dropmax_logit_loss(jax.random.key(0), heads, labels).shape
        (8,)
    """
    (logits,) = head_arrays(heads, "logits")
    retained = sample_retained_classes(key, logits, labels, retain_probability)
    is_kept = retained | ~_checks.exists(logits)
    return cross_entropy(jnp.where(is_kept, logits, 0.0), labels)


METHOD = Method(
    heads=("logits",),
    loss_and_terms=SingleTerm("cross_entropy", random_dropmax_logit_loss),
    predict=softmax_log_probs,
    search_space={"retain_probability": (0.2, 0.4, 0.6)},
)
