"""Sparsemax: the projection onto the simplex, which gives many classes no probability at all.

References:
    Martins and Astudillo, `From Softmax to Sparsemax: A Sparse Model of Attention and Multi-Label
    Classification <https://arxiv.org/abs/1602.02068>`_, ICML 2016.

    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_,
    NeurIPS 2018, the sparsemax row of the table of test errors.
"""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from dropmax_jax import _checks, _sharding
from dropmax_jax.heads import Heads, head_arrays
from dropmax_jax.method import Method, SingleTerm

# The probability of a class to which the projection gives none, DropMax's ε: one wrong prediction
# then costs 46 nats and not infinitely many.
_FLOOR = 1e-20


def sparsemax_probs(logits: ArrayLike) -> jax.Array:
    r"""Sparsemax of logits: the point of the probability simplex that is closest to them.

    .. math::
        \operatorname{sparsemax}(z) = \operatorname{argmin}_{p \in \Delta^{K-1}} \|p - z\|^2
            = [z - \tau(z)]_+

    Returns:
        Probabilities `[..., K]`, many of them exactly 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.methods.sparsemax import sparsemax_probs
        >>> print(sparsemax_probs(jnp.array([1.0, 0.5, -1.0])))
        [0.75 0.25 0.  ]

    References:
        Martins and Astudillo 2016, equations 2 and 3.
    """
    logits = _shifted(logits)
    rows = logits.reshape(-1, logits.shape[-1])
    return jax.vmap(optax.projections.projection_simplex)(rows).reshape(logits.shape)


def multiclass_sparsemax_loss(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    r"""Sparsemax loss, the convex loss whose gradient is sparsemax less the one-hot label.

    With p the sparsemax of z, t the label and :math:`\tau` the threshold of p,

    .. math::
        L(z; t) = -z_t + \frac{1}{2} \sum_{k: p_k > 0} (z_k^2 - \tau^2(z)) + \frac{1}{2}.

    It is 0 where the logit of the label exceeds all others by 1 or more.

    Args:
        logits: z, the class logits, `[..., K]`.
        labels: Integers `[...]`, or probabilities `[..., K]`, for the mean over labels.

    Returns:
        The loss per example `[...]`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.methods.sparsemax import multiclass_sparsemax_loss
        >>> logits = jnp.array([1.0, 0.5, -1.0])
        >>> print(f"{multiclass_sparsemax_loss(logits, 1):.4f}")
        0.5625
        >>> print(jax.grad(multiclass_sparsemax_loss)(logits, 1))
        [ 0.75 -0.75  0.  ]

    References:
        Martins and Astudillo 2016, equation 13.
    """
    logits = _shifted(logits)
    target = _checks.target(labels, logits, "logits").astype(logits.dtype)
    rows = logits.reshape(-1, logits.shape[-1])
    # The loss of the best class, plus its logit, is the part without the label.
    best = jnp.argmax(rows, axis=-1)
    conjugate = jnp.asarray(optax.losses.multiclass_sparsemax_loss(rows, best))
    conjugate += jnp.take_along_axis(rows, best[:, None], axis=-1)[:, 0]
    conjugate = conjugate.reshape(logits.shape[:-1])
    return jnp.sum(target, axis=-1) * conjugate - jnp.sum(target * logits, axis=-1)


def sparsemax_loss(key: jax.Array, heads: Heads, labels: ArrayLike) -> jax.Array:
    """Sparsemax loss of `heads.logits`, per example `[...]`; `key` is not used."""
    del key
    (logits,) = head_arrays(heads, "logits")
    return multiclass_sparsemax_loss(logits, labels)


def sparsemax_log_probs(heads: Heads) -> jax.Array:
    """Log of sparsemax of `heads.logits`, `[..., K]`, and at least log 1e-20 = -46.05.

    Without this floor, a label of no probability would make the mean over a test set infinite. It
    moves no probability by more than 1e-20.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.sparsemax import sparsemax_log_probs
        >>> print(sparsemax_log_probs(Heads(jnp.array([3.0, 0.0]))).round(2))
        [  0.   -46.05]
    """
    (logits,) = head_arrays(heads, "logits")
    return jnp.log(sparsemax_probs(logits) + _FLOOR)


def _shifted(logits: ArrayLike) -> jax.Array:
    """The logits less their maximum: the result is the same, and its sums round less."""
    (array,) = _checks.promote(_checks.class_array("logits", logits))
    _sharding.whole_classes(array, "sparsemax sorts the classes")
    array = _checks.bounded_below(array)
    return array - jax.lax.stop_gradient(jnp.max(array, axis=-1, keepdims=True))


METHOD = Method(
    heads=("logits",),
    loss_and_terms=SingleTerm("sparsemax_loss", sparsemax_loss),
    predict=sparsemax_log_probs,
)
