"""Deterministic attention: DropMax's retain probabilities as weights, with nothing random.

References:
    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_,
    NeurIPS 2018, the deterministic attention row of the table of test errors.
"""

import jax
from jax.typing import ArrayLike

from dropmax_jax.heads import Heads
from dropmax_jax.method import Method, SingleTerm
from dropmax_jax.methods.softmax import cross_entropy
from dropmax_jax.prediction import dropmax_log_probs


def attention_log_probs(heads: Heads) -> jax.Array:
    r"""Log-probabilities `[..., K]` where a sigmoid attention multiplies the exponentials.

    .. math::
        p(y=k \mid x) = \frac{\rho_k \exp(o_k)}{\sum_j \rho_j \exp(o_j)}

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.deterministic_attention import attention_log_probs
        >>> heads = Heads(jnp.zeros(2), jnp.log(jnp.array([3.0, 1 / 3])))  # ρ is 3/4 and 1/4
        >>> print(attention_log_probs(heads).round(4))  # log 3/4 and log 1/4
        [-0.2877 -1.3863]
    """
    return dropmax_log_probs(heads, epsilon=0.0)


def attention_loss(key: jax.Array, heads: Heads, labels: ArrayLike) -> jax.Array:
    """Cross-entropy of `attention_log_probs`, per example `[...]`; `key` is not used.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.deterministic_attention import attention_loss
        >>> heads = Heads(jnp.zeros((8, 10)), jnp.zeros((8, 10)))
        >>> attention_loss(jax.random.key(0), heads, jnp.arange(8)).shape
        (8,)
    """
    del key
    return cross_entropy(attention_log_probs(heads), labels)


METHOD = Method(
    heads=("logits", "prior_logits"),
    loss_and_terms=SingleTerm("cross_entropy", attention_loss),
    predict=attention_log_probs,
)
