r"""Class dropout, the paper's random DropMax: all classes are dropped with one fixed probability.

References:
    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_,
    NeurIPS 2018, the random DropMax row of the table of test errors.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks
from dropmax_jax.dropmax import dropmax_logits
from dropmax_jax.heads import Heads, head_arrays
from dropmax_jax.method import Method, SingleTerm
from dropmax_jax.methods.softmax import cross_entropy, softmax_log_probs


def sample_retained_classes(
    key: jax.Array, logits: ArrayLike, labels: ArrayLike, retain_probability: ArrayLike
) -> jax.Array:
    r"""Draws which classes are retained: the label always, any other with a fixed probability.

    .. math::
        z_t = 1, \qquad z_k \sim \operatorname{Bernoulli}(\rho) \text{ for } k \ne t

    Args:
        key: A random key.
        logits: An array `[..., K]`, of which only the shape and precision matter.
        labels: Integers `[...]`.
        retain_probability: ρ, a scalar in (0, 1]. A number is checked; a JAX array isn't.

    Returns:
        z, booleans `[..., K]`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.methods.class_dropout import sample_retained_classes
        >>> logits, labels = jnp.zeros((1000, 10)), jnp.zeros(1000, jnp.int32)
        >>> retained = sample_retained_classes(jax.random.key(0), logits, labels, 0.2)
        >>> bool(retained[:, 0].all()), bool(abs(retained[:, 1:].mean() - 0.2) < 0.02)
        (True, True)
    """
    _checks.random_key(key)
    (logits,) = _checks.promote(_checks.class_array("logits", logits))
    is_target = _checks.target_mask(labels, logits, "logits")
    probability = _checks.fraction("retain_probability", retain_probability, logits.dtype)
    return jax.random.bernoulli(key, probability, logits.shape) | is_target


def retained_cross_entropy(logits: ArrayLike, labels: ArrayLike, retained: jax.Array) -> jax.Array:
    r"""Cross-entropy `[...]` of the softmax over the classes that are retained.

    .. math::
        -\log \frac{\exp(o_t)}{\sum_k z_k \exp(o_k)}

    Args:
        logits: o, the class logits, `[..., K]`.
        labels: Integers `[...]`.
        retained: z, booleans `[..., K]`; the loss is infinite where the label is not retained.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.methods.class_dropout import retained_cross_entropy
        >>> loss = retained_cross_entropy(jnp.zeros(4), 0, jnp.array([True, True, False, False]))
        >>> print(f"{loss:.4f}")  # one class of two
        0.6931
    """
    (logits,) = _checks.promote(_checks.class_array("logits", logits))
    retained = _checks.bool_array("retained", retained)
    _checks.same_shape("retained", retained, logits.shape, "logits")
    is_target = _checks.target_mask(labels, logits, "logits")
    log_mask = jnp.where(retained | is_target, 0.0, -jnp.inf)
    loss = cross_entropy(dropmax_logits(logits, log_mask, epsilon=0.0), labels)
    return jnp.where(jnp.any(is_target & retained, axis=-1), loss, jnp.inf)


def class_dropout_loss(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, retain_probability: ArrayLike = 0.4
) -> jax.Array:
    """Cross-entropy `[...]` over the label and a random choice of the other classes.

    The choice is drawn for each example by `sample_retained_classes`. With a retain probability of
    1 this is the ordinary softmax; the paper chooses it among 0.2, 0.4 and 0.6 on validation data.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.class_dropout import class_dropout_loss
        >>> heads, labels = Heads(jnp.zeros((8, 10))), jnp.arange(8)
        >>> class_dropout_loss(jax.random.key(0), heads, labels, retain_probability=0.2).shape
        (8,)
    """
    (logits,) = head_arrays(heads, "logits")
    target = _checks.target(labels, logits, "logits")
    if target.dtype == jnp.bool_:
        retained = sample_retained_classes(key, logits, labels, retain_probability)
        return retained_cross_entropy(logits, labels, retained)
    nobody = jnp.full(logits.shape[:-1], -1)
    retained = sample_retained_classes(key, logits, nobody, retain_probability)
    logits = _checks.bounded_below(logits)
    kept, dropped = (jnp.where(z, logits, _checks.NO_CLASS) for z in (retained, ~retained))
    # Were a dropped class the label, it would be retained, and add its share.
    log_totals = jnp.logaddexp(jax.nn.logsumexp(kept, axis=-1, keepdims=True), dropped)
    return jnp.sum(target * (log_totals - logits), axis=-1)


METHOD = Method(
    heads=("logits",),
    loss_and_terms=SingleTerm("cross_entropy", class_dropout_loss),
    predict=softmax_log_probs,
    search_space={"retain_probability": (0.2, 0.4, 0.6)},
)
