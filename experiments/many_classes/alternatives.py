"""Other remedies for many classes, and the balanced loss with parts changed.

Each is a method made of the library's functions.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dropmax_jax import (
    METHODS,
    Heads,
    LossTerms,
    Method,
    dropmax_balanced_loss_and_terms,
    dropmax_log_probs,
    dropmax_loss_and_terms,
    dropmax_loss_terms,
    posterior_logits,
    sample_log_mask,
)
from dropmax_jax.methods.dropmax import method_of
from dropmax_jax.methods.softmax import cross_entropy

_LEAST_POSTERIOR = 0.2
_FIRST_BIAS = 2.0
_NUM_MASKS = 4

LossAndTerms = Callable[..., tuple[Array, LossTerms]]


def _weighted(loss: LossAndTerms, weights: Callable[[int], tuple[float, ...]]) -> Method:
    """A loss whose terms have other weights, a function of the number of classes.

    They are those of the cross-entropy, the KL divergence, the label regression and the entropy.
    """

    def loss_and_terms(
        key: Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike
    ) -> tuple[Array, LossTerms]:
        own = LossTerms(*map(jnp.float32, weights(jnp.shape(heads.logits)[-1])))
        return loss(key, heads, labels, weights=own, temperature=temperature)

    return method_of(loss_and_terms)


def _through(
    change: Callable[[Heads], Heads],
    regression: Callable[[Heads, ArrayLike], Array] | None = None,
) -> Method:
    """The paper's loss where the masks have other heads than the regression of the label.

    Args:
        change: Gives the heads of the masks.
        regression: Of the label, by the network's own heads; None for the paper's.
    """

    def loss_and_terms(
        key: Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike
    ) -> tuple[Array, LossTerms]:
        own = change(heads)
        log_mask = sample_log_mask(key, posterior_logits(own), temperature)
        terms = dropmax_loss_terms(own, labels, log_mask)
        if regression is None:
            plain = dropmax_loss_terms(heads, labels, log_mask).label_regression
        else:
            plain = regression(heads, labels)
        terms = terms._replace(label_regression=plain)
        return jnp.asarray(sum(terms)), terms

    return method_of(loss_and_terms)


def _with_heads(loss: LossAndTerms, change: Callable[[Heads], Heads]) -> Method:
    """A loss and DropMax's predictions of other heads than the network's."""

    def loss_and_terms(
        key: Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike
    ) -> tuple[Array, LossTerms]:
        return loss(key, change(heads), labels, temperature=temperature)

    def predict(heads: Heads) -> Array:
        return dropmax_log_probs(change(heads))

    return dataclasses.replace(method_of(loss_and_terms), predict=predict)


def _offset(heads: Heads) -> Heads:
    return heads._replace(label_logits=heads.label_logits + math.log(heads.logits.shape[-1] - 1))


def _floored(heads: Heads) -> Heads:
    floor = math.log(_LEAST_POSTERIOR / (1 - _LEAST_POSTERIOR))
    # As in the posterior, no gradient flows into the prior.
    prior = jax.lax.stop_gradient(heads.prior_logits)
    return heads._replace(label_logits=jnp.maximum(posterior_logits(heads), floor) - prior)


def _odds(logits: Array) -> Array:
    """The log-odds of each class of a softmax, `[..., K]`."""
    log_probs = jax.nn.log_softmax(logits)
    return log_probs - jnp.log(jnp.maximum(-jnp.expm1(log_probs), 1e-7))


def _by_softmax(heads: Heads) -> Heads:
    return heads._replace(label_logits=_odds(heads.label_logits))


def _biased(heads: Heads) -> Heads:
    return heads._replace(
        prior_logits=heads.prior_logits + _FIRST_BIAS, label_logits=heads.label_logits + _FIRST_BIAS
    )


def _of_class_probabilities(heads: Heads) -> Heads:
    return heads._replace(prior_logits=_odds(heads.logits))


def _several_masks(
    key: Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike
) -> tuple[Array, LossTerms]:
    one = functools.partial(dropmax_loss_and_terms, temperature=temperature)
    found = jax.vmap(one, (0, None, None))(jax.random.split(key, _NUM_MASKS), heads, labels)
    mean: tuple[Array, LossTerms] = jax.tree.map(lambda values: jnp.mean(values, axis=0), found)
    return mean


def _entropy(weight: float) -> Method:
    return _weighted(dropmax_balanced_loss_and_terms, lambda _: (1, 1, 1, weight))


ALTERNATIVES: dict[str, tuple[str, Method]] = {
    "softmax": ("", METHODS["softmax"]),
    "dropmax": ("the paper's", METHODS["dropmax"]),
    "dropmax_balanced": ("", METHODS["dropmax_balanced"]),
    "offset": ("log(K - 1) added to the logit of r in the posterior", _through(_offset)),
    "softmax_regression": (
        "r by a softmax and its cross-entropy, instead of sigmoids",
        _through(_by_softmax, lambda heads, labels: cross_entropy(heads.label_logits, labels)),
    ),
    "floor": (f"q of {_LEAST_POSTERIOR} at least", _through(_floored)),
    "biases": (
        f"the prior and r begin near {1 / (1 + math.exp(-_FIRST_BIAS)):.2f}",
        _with_heads(dropmax_loss_and_terms, _biased),
    ),
    "masks": (f"the mean of {_NUM_MASKS} masks a step", method_of(_several_masks)),
    "kl_per_class": (
        "KL and entropy times 10/K",
        _weighted(dropmax_loss_and_terms, lambda size: (1, 10 / size, 1, 10 / size)),
    ),
    "all_per_class": (
        "KL, label regression and entropy times 10/K",
        _weighted(dropmax_loss_and_terms, lambda size: (1, 10 / size, 10 / size, 10 / size)),
    ),
    "no_posterior": ("q = p, but for the target", METHODS["dropmax_prior"]),
    "marginal": ("masks of the prior", METHODS["dropmax_marginal"]),
    "balanced, summed": (
        "the balanced regression without the factor 4/K",
        _weighted(dropmax_balanced_loss_and_terms, lambda size: (1, 1, size / 4, 1)),
    ),
    "balanced, entropy 0": ("no entropy of the prior", _entropy(0)),
    "balanced, entropy 0.1": ("the prior's entropy times 0.1", _entropy(0.1)),
    "balanced, entropy 10": ("the prior's entropy times 10", _entropy(10)),
    "balanced, no prior head": (
        "the prior is the softmax of the class logits",
        _with_heads(dropmax_balanced_loss_and_terms, _of_class_probabilities),
    ),
}
"""By name: what is different, and the method."""
