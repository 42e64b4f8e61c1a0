"""Sampled softmax: training compares the label with a sample of the other classes.

References:
    Jean et al., `On Using Very Large Target Vocabulary for Neural Machine Translation
    <https://arxiv.org/abs/1412.2007>`_, ACL 2015.

    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_,
    NeurIPS 2018, the sampled softmax row of the table of test errors.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks, _sharding
from dropmax_jax.heads import Heads, head_arrays
from dropmax_jax.method import Method, SingleTerm
from dropmax_jax.methods.class_dropout import retained_cross_entropy
from dropmax_jax.methods.softmax import softmax_log_probs


def sample_class_subset(
    key: jax.Array, logits: ArrayLike, labels: ArrayLike, sampled_fraction: ArrayLike
) -> jax.Array:
    """Draws a set of classes of a fixed size: the label, and others uniformly without replacement.

    Args:
        key: A random key.
        logits: An array `[..., K]`, of which only the shape and precision matter, and where it is
            minus infinity: such a class does not exist.
        labels: Integers `[...]`.
        sampled_fraction: Share of the K classes in the set, its label included, a scalar in (0, 1].
            The set has round(sampled_fraction · K) classes, but at least two, as one teaches
            nothing. A number is checked; a JAX array isn't.

    Returns:
        Booleans `[..., K]`, true for the classes of the set, another set for each example.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.methods.sampled_softmax import sample_class_subset
        >>> logits, labels = jnp.zeros((5, 10)), jnp.arange(5)
        >>> subset = sample_class_subset(jax.random.key(0), logits, labels, 0.4)
        >>> print(subset.sum(axis=-1))
        [4 4 4 4 4]
        >>> print(subset[jnp.arange(5), labels])
        [ True  True  True  True  True]
    """
    _checks.random_key(key)
    (logits,) = _checks.promote(_checks.class_array("logits", logits))
    is_target = _checks.target_mask(labels, logits, "logits")
    share = _checks.fraction("sampled_fraction", sampled_fraction, logits.dtype)
    exists = _checks.exists(logits)
    num_classes = jnp.sum(exists, axis=-1, keepdims=True, dtype=logits.dtype)
    num_sampled = jnp.maximum(jnp.round(share * num_classes), 2.0)

    if _sharding.explicit(logits) is not None:
        raise ValueError(
            "sampled_softmax permutes classes, which JAX does not do on a mesh of explicit axes: "
            "use one of automatic axes"
        )
    places = jnp.broadcast_to(jnp.arange(logits.shape[-1], dtype=jnp.int32), logits.shape)
    places = jax.random.permutation(key, places, axis=-1, independent=True)
    # Classes that do not exist come last.
    places = jnp.where(exists, places, places + logits.shape[-1])
    places = jnp.argsort(jnp.argsort(places, axis=-1), axis=-1).astype(jnp.int32)
    place_of_target = jnp.sum(jnp.where(is_target, places, 0), axis=-1, keepdims=True)
    # Places among the other classes: those behind the label move up by one.
    places = jnp.where(places > place_of_target, places - 1, places)
    return is_target | (places < (num_sampled - 1).astype(jnp.int32))


def sampled_softmax_loss(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, sampled_fraction: ArrayLike = 0.4
) -> jax.Array:
    r"""Cross-entropy `[...]` over the label and a uniform sample of the other classes.

    With V' the set that `sample_class_subset` draws for an example, its label t included,

    .. math::
        -\log \frac{\exp(o_t - \log Q_t)}{\sum_{k \in V'} \exp(o_k - \log Q_k)}.

    As the distribution Q from which classes are proposed is uniform, its terms cancel. With a
    fraction of 1 this is the ordinary softmax; the paper chooses it among 0.2, 0.4 and 0.6 on
    validation data.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.sampled_softmax import sampled_softmax_loss
        >>> heads, labels = Heads(jnp.zeros((2, 10))), jnp.arange(2)
        >>> loss = sampled_softmax_loss(jax.random.key(0), heads, labels, sampled_fraction=0.2)
        >>> print(loss.round(4))  # one class of two, whichever the other is
        [0.6931 0.6931]

    References:
        Jean et al. 2015, section 3.
    """
    (logits,) = head_arrays(heads, "logits")
    subset = sample_class_subset(key, logits, labels, sampled_fraction)
    return retained_cross_entropy(logits, labels, subset)


METHOD = Method(
    heads=("logits",),
    loss_and_terms=SingleTerm("cross_entropy", sampled_softmax_loss),
    predict=softmax_log_probs,
    search_space={"sampled_fraction": (0.2, 0.4, 0.6)},
)
