r"""Label smoothing: a softmax trained on labels of which a part is spread over all classes.

References:
    Szegedy et al., `Rethinking the Inception Architecture for Computer Vision
    <https://arxiv.org/abs/1512.00567>`_, CVPR 2016, section 7.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks
from dropmax_jax.heads import Heads, head_arrays
from dropmax_jax.method import Method, SingleTerm
from dropmax_jax.methods.softmax import cross_entropy, softmax_log_probs


def label_smoothing_loss(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, smoothing: ArrayLike = 0.1
) -> jax.Array:
    r"""Cross-entropy `[...]` with labels mixed with the uniform distribution; `key` is not used.

    .. math::
        -(1-s) \log p_t - \frac{s}{K} \sum_k \log p_k

    `smoothing` is s, a scalar in (0, 1]. A number is checked; a JAX array isn't. K counts the
    classes that exist: those whose logit is not minus infinity.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.label_smoothing import label_smoothing_loss
        >>> heads = Heads(jnp.array([jnp.log(3.0), 0.0]))
        >>> loss = label_smoothing_loss(jax.random.key(0), heads, 0, smoothing=0.2)
        >>> print(f"{loss:.4f}")  # -0.9 log 0.75 - 0.1 log 0.25
        0.3975
    """
    del key
    (logits,) = head_arrays(heads, "logits")
    share = _checks.fraction("smoothing", smoothing, logits.dtype)
    target = _checks.target(labels, logits, "logits").astype(logits.dtype)
    exists = _checks.exists(logits).astype(logits.dtype)
    uniform = exists / jnp.maximum(jnp.sum(exists, axis=-1, keepdims=True), 1.0)
    return cross_entropy(logits, (1.0 - share) * target + share * uniform)


METHOD = Method(
    heads=("logits",),
    loss_and_terms=SingleTerm("cross_entropy", label_smoothing_loss),
    predict=softmax_log_probs,
    search_space={"smoothing": (0.05, 0.1, 0.2)},
)
