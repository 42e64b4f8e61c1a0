"""DropMax's predictions: under the mean of the mask, or under masks drawn from the prior.

`dropmax_jax.dropmax` says what arguments, results and errors its functions and these share.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks, _where
from dropmax_jax.concrete import log_sigmoid, sample_log_mask
from dropmax_jax.dropmax import dropmax_logits
from dropmax_jax.heads import Heads
from dropmax_jax.metrics import predictive_entropy


def dropmax_log_probs(
    heads: Heads, epsilon: float = 1e-20, *, where: ArrayLike | None = None
) -> jax.Array:
    r"""Log-probabilities of the classes at test time, from the mean ρ of the mask.

    .. math::
        \log p(y=k \mid x) \approx \log\operatorname{softmax}_k(o + \log(\rho + \epsilon))

    Args:
        heads: With `logits` and `prior_logits`.
        epsilon: Added to the mean mask.
        where: Which classes exist, or which examples count. Those of other examples are arbitrary,
            but finite.

    Returns:
        Log-probabilities `[..., K]`.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, dropmax_log_probs
        >>> heads = Heads(jnp.zeros(2), jnp.array([20.0, -20.0]))  # ρ is almost 1, and 0
        >>> print(jnp.exp(dropmax_log_probs(heads)).round(3))
        [1. 0.]

    References:
        Lee et al. 2018, section 4 (the prediction at test time).
    """
    counts, (logits, prior) = _where.head_arrays_of(where, heads, "logits", "prior_logits")
    log_probs = jax.nn.log_softmax(dropmax_logits(logits, log_sigmoid(prior), epsilon))
    return counts.per_class(log_probs)


def sample_dropmax_log_probs(
    key: jax.Array,
    heads: Heads,
    num_samples: int,
    *,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 0.1,
    epsilon: float = 1e-20,
) -> jax.Array:
    r"""Log-probabilities of the classes under masks drawn from the prior.

    `dropmax_jax.metrics.mean_log_probs` of them estimates :math:`p(y \mid x) =
    \mathbb{E}_{p(z|x)}[p(y \mid x, z)]`, and `dropmax_jax.metrics.mutual_information` measures
    how much they disagree. To predict, use `dropmax_log_probs`: as a mask may drop any class, the
    mean over masks tends to be less confident than it is accurate.

    Args:
        key: For the masks.
        heads: With `logits` and `prior_logits`.
        num_samples: Number of masks, a Python integer of at least 1.
        where: Which classes exist, or which examples count.
        temperature: Of the relaxed masks.
        epsilon: Added to the mask. Where a mask drops all classes, ε makes the probabilities those
            of the softmax without a mask.

    Returns:
        Log-probabilities `[num_samples, ..., K]`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, sample_dropmax_log_probs
        >>> heads = Heads(jnp.zeros((8, 10)), jnp.ones((8, 10)))
        >>> sample_dropmax_log_probs(jax.random.key(0), heads, 5).shape
        (5, 8, 10)

    References:
        Lee et al. 2018, section 4 (the Monte Carlo prediction).
    """
    num_samples = _checks.positive_int("num_samples", num_samples)
    counts, (logits, prior) = _where.head_arrays_of(where, heads, "logits", "prior_logits")
    shape = (num_samples, *logits.shape)
    log_mask = sample_log_mask(key, jnp.broadcast_to(prior, shape), temperature)
    masked = dropmax_logits(jnp.broadcast_to(logits, shape), log_mask, epsilon)
    return counts.per_class(jax.nn.log_softmax(masked))


class Uncertainty(NamedTuple):
    """What masks of the prior say of each example, in nats.

    Attributes:
        mean_log_probs: Log of the mean probabilities, `[..., K]`.
        predictive_entropy: Entropy of these, `[...]`.
        mutual_information: How much the masks' predictions disagree, `[...]` (BALD).
    """

    mean_log_probs: jax.Array
    predictive_entropy: jax.Array
    mutual_information: jax.Array


def dropmax_uncertainty(
    key: jax.Array,
    heads: Heads,
    num_samples: int,
    *,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 0.1,
    epsilon: float = 1e-20,
) -> Uncertainty:
    """The uncertainty of `num_samples` masks, one after the other, in the memory of a few.

    These are the metrics of `sample_dropmax_log_probs`, under other masks. The masks are drawn from
    `jax.random.fold_in(key, n)` for n from 0 to `num_samples` - 1.

    Args:
        key: For the masks.
        heads: With `logits` and `prior_logits`.
        num_samples: Number of masks, a Python integer of at least 1.
        where: Which classes exist, or which examples count.
        temperature: Of the relaxed masks.
        epsilon: Added to the mask.

    Returns:
        The mean prediction, its entropy, and the mutual information.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, dropmax_uncertainty
        >>> heads = Heads(jnp.zeros((8, 10)), jnp.ones((8, 10)))
        >>> dropmax_uncertainty(jax.random.key(0), heads, 50).mutual_information.shape
        (8,)

    References:
        Houlsby et al., `Bayesian Active Learning for Classification and Preference Learning
        <https://arxiv.org/abs/1112.5745>`_, 2011, equation 2.
    """
    num_samples = _checks.positive_int("num_samples", num_samples)
    _checks.random_key(key)

    def sample(number: jax.Array | int) -> tuple[jax.Array, jax.Array]:
        (log_probs,) = sample_dropmax_log_probs(
            jax.random.fold_in(key, number),
            heads,
            1,
            where=where,
            temperature=temperature,
            epsilon=epsilon,
        )
        return log_probs, predictive_entropy(log_probs)

    def add(
        totals: tuple[jax.Array, jax.Array], number: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        log_probs, entropy = sample(number)
        return (jnp.logaddexp(totals[0], log_probs), totals[1] + entropy), None

    (log_total, entropies), _ = jax.lax.scan(add, sample(0), jnp.arange(1, num_samples))
    mean_log_probs = log_total - jnp.log(jnp.asarray(num_samples, log_total.dtype))
    entropy = predictive_entropy(mean_log_probs)
    # Negative only by rounding.
    information = jnp.maximum(entropy - entropies / num_samples, 0.0)
    return Uncertainty(mean_log_probs, entropy, information)
