r"""DropMax: a softmax over classes that are dropped at random, each with its own probability.

A network gives three vectors per example, each over the K classes: the class logits o, the logits
of ρ, the probability that a class is retained, and the logits of r, which is trained to regress
the one-hot label. A mask z decides which classes enter the softmax,

.. math::
    p(y=t \mid x, z) = \frac{(z_t + \epsilon) \exp(o_t)}{\sum_k (z_k + \epsilon) \exp(o_k)},

that is, an ordinary softmax of :math:`o + \log(z + \epsilon)`. The mask's prior is
:math:`p(z_k=1 \mid x) = \rho_k`; its approximate posterior q, which also sees the label, shifts
the prior's logits by those of r and always retains the target class.

References:
    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_,
    NeurIPS 2018.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks
from dropmax_jax._fused_loss import fused_loss
from dropmax_jax.concrete import (
    bernoulli_kl,
    bernoulli_negative_entropy,
    log_add_constant,
    log_sigmoid,
    sample_log_mask,
)


class Heads(NamedTuple):
    """What a network gives for each example, finite numbers `[..., K]`, classes last.

    Attributes:
        logits: o(x), the class logits.
        prior_logits: Logits of ρ(x), the probability that a class is retained. None where a
            method does not use them, as for the two heads below.
        label_logits: Logits of r(x), which regresses the one-hot label.
    """

    logits: jax.Array
    prior_logits: jax.Array | None = None
    label_logits: jax.Array | None = None


class LossTerms(NamedTuple):
    """The four terms of the loss, per example `[...]`, in nats.

    Attributes:
        cross_entropy: -log p(y|x, z) for the mask given.
        kl_divergence: KL(q(z|x, y) ‖ p(z|x)), summed over classes.
        label_regression: Binary cross-entropy of r(x) and the one-hot label, summed over classes.
        prior_negative_entropy: Negative entropy of the prior p(z|x), summed over classes.
    """

    cross_entropy: jax.Array
    kl_divergence: jax.Array
    label_regression: jax.Array
    prior_negative_entropy: jax.Array

    @property
    def total(self) -> jax.Array:
        """The loss that training minimises, the sum of the four."""
        return (
            self.cross_entropy
            + self.kl_divergence
            + self.label_regression
            + self.prior_negative_entropy
        )


def posterior_logits(heads: Heads) -> jax.Array:
    r"""Logits of the approximate posterior q(z_k=1|x, y) of the non-target classes.

    .. math::
        \operatorname{logit} q_k = \operatorname{logit} \rho_k + \operatorname{logit} r_k

    No gradient flows into the prior through it: of the two, the cross-entropy trains r only, and
    the prior follows q by the KL term. The target class is retained with certainty, which
    `dropmax_loss_terms` takes care of.

    Args:
        heads: Heads with `prior_logits` and `label_logits`, `[..., K]`.

    Returns:
        Logits `[..., K]`; float64 if a head is, else float32.

    Raises:
        ValueError: A head is missing or of another shape, or there is no class.
        TypeError: `heads` is no Heads, or a head is not floating point.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, posterior_logits
        >>> heads = Heads(jnp.zeros(2), jnp.array([1.0, 2.0]), jnp.array([0.5, -2.0]))
        >>> print(posterior_logits(heads))
        [1.5 0. ]

    References:
        Lee et al. 2018, section 4 (the approximate posterior).
    """
    prior, label = head_arrays(heads, "prior_logits", "label_logits")
    return jax.lax.stop_gradient(prior) + label


def dropmax_logits(logits: ArrayLike, log_mask: ArrayLike, epsilon: float = 1e-20) -> jax.Array:
    r"""Logits whose softmax is the masked softmax: :math:`o + \log(z + \epsilon)`.

    Any loss or metric of logits can be composed with these.

    Args:
        logits: o, the class logits, floating point `[..., K]`.
        log_mask: log z, of the shape of `logits`; minus infinity for a class that is dropped.
        epsilon: ε ≥ 0, a Python number, what a dropped class retains of its weight. With 0 a
            dropped class has no probability at all.

    Returns:
        Logits `[..., K]`; float64 if an argument is, else float32.

    Raises:
        ValueError: The shapes differ, there is no class, or ε is negative or not finite.
        TypeError: An array is not floating point, or ε not a Python number.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import dropmax_logits
        >>> log_mask = jnp.array([0.0, 0.0, -jnp.inf])  # the last class is dropped
        >>> print(jax.nn.softmax(dropmax_logits(jnp.zeros(3), log_mask)).round(3))
        [0.5 0.5 0. ]

    References:
        Lee et al. 2018, section 3 (the definition of the masked softmax).
    """
    log_epsilon = _checks.log_epsilon(epsilon)
    logits = _checks.class_array("logits", logits)
    log_mask = _checks.class_array("log_mask", log_mask)
    _checks.same_shape("log_mask", log_mask, logits.shape, "logits")
    logits, log_mask = _checks.promote(logits, log_mask)
    if epsilon == 0.0:
        return logits + log_mask
    return logits + log_add_constant(log_mask, jnp.asarray(log_epsilon, log_mask.dtype))


def dropmax_loss_terms(
    heads: Heads, labels: ArrayLike, log_mask: ArrayLike, epsilon: float = 1e-20
) -> LossTerms:
    r"""The terms of the DropMax loss for a mask that is given.

    With t the label, :math:`q_k` from `posterior_logits`, and sums over the K classes:

    - cross-entropy: :math:`-\log p(y=t \mid x, z)`, where :math:`z_t = 1` whatever `log_mask`
      says of the target;
    - KL divergence: :math:`-\log\rho_t + \sum_{k \ne t} KL(q_k \| \rho_k)`;
    - label regression: :math:`-\log r_t - \sum_{k \ne t} \log(1 - r_k)`;
    - negative entropy of the prior: :math:`\sum_k \rho_k\log\rho_k + (1-\rho_k)\log(1-\rho_k)`.

    Args:
        heads: All three heads, `[..., K]`.
        labels: Class of each example, integers `[...]` in [0, K). This is not checked: the result
            for a label out of range is undefined.
        log_mask: log z, `[..., K]`, as drawn from the posterior by `sample_log_mask`.
        epsilon: ε ≥ 0, a Python number, added to the mask.

    Returns:
        The terms, per example `[...]`, in nats; float64 if an array is, else float32.

    Raises:
        ValueError: A head is missing, shapes do not fit, there is no class, or ε is negative.
        TypeError: A head or the mask is not floating point, or labels are not integers.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, dropmax_loss_terms, posterior_logits, sample_log_mask
        >>> heads = Heads(jnp.zeros((8, 10)), jnp.ones((8, 10)), jnp.zeros((8, 10)))
        >>> log_mask = sample_log_mask(jax.random.key(0), posterior_logits(heads))
        >>> terms = dropmax_loss_terms(heads, jnp.zeros(8, jnp.int32), log_mask)
        >>> terms.kl_divergence.shape
        (8,)
        >>> print(f"{terms.kl_divergence[0]:.4f}")  # q = ρ but for the target: -log ρ_t
        0.3133

    References:
        Lee et al. 2018, sections 3 and 4 (the variational bound and the regularisers).
    """
    logits, prior, label = head_arrays(heads, "logits", "prior_logits", "label_logits")
    is_target = _checks.target_mask(labels, logits.shape, "logits")
    log_mask = _checks.class_array("log_mask", log_mask)
    _checks.same_shape("log_mask", log_mask, logits.shape, "logits")

    masked = dropmax_logits(logits, jnp.where(is_target, 0.0, log_mask), epsilon)
    # The target's masked logit, read from the logits: the masked ones need not be kept for this.
    target_logit = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1) + math.log1p(epsilon)
    posterior = jax.lax.stop_gradient(prior) + label
    kl = jnp.where(is_target, -log_sigmoid(prior), bernoulli_kl(posterior, prior))
    return LossTerms(
        cross_entropy=jax.nn.logsumexp(masked, axis=-1) - target_logit,
        kl_divergence=jnp.sum(kl, axis=-1),
        label_regression=-jnp.sum(log_sigmoid(jnp.where(is_target, label, -label)), axis=-1),
        prior_negative_entropy=jnp.sum(bernoulli_negative_entropy(prior), axis=-1),
    )


def dropmax_loss(
    key: jax.Array,
    heads: Heads,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = 0.1,
    epsilon: float = 1e-20,
) -> jax.Array:
    r"""The DropMax loss: `dropmax_loss_terms` for a mask drawn from the posterior, added up.

    This is an unbiased estimate, from one mask, of the negative variational bound with the relaxed
    mask, plus the two regularisers. Train on its mean over the batch.

    Args:
        key: A random key, another one each step.
        heads: All three heads, `[..., K]`.
        labels: Class of each example, integers `[...]` in [0, K); undefined result otherwise.
        temperature: τ of the relaxed mask, a positive scalar. A number is checked; a JAX array,
            traced or not, isn't.
        epsilon: ε ≥ 0, a Python number, added to the mask.

    Returns:
        The loss, per example `[...]`, in nats; float64 if a head is, else float32.

    Raises:
        ValueError: A head is missing, shapes do not fit, there is no class, the temperature is not
            positive or ε is negative.
        TypeError: `key` is no key, a head is not floating point, or labels are not integers.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, dropmax_loss
        >>> heads = Heads(jnp.zeros((8, 10)), jnp.ones((8, 10)), jnp.zeros((8, 10)))
        >>> labels = jnp.arange(8)
        >>> def mean_loss(heads, key):
        ...     return dropmax_loss(key, heads, labels).mean()
        >>> loss, gradients = jax.value_and_grad(mean_loss)(heads, jax.random.key(0))
        >>> gradients.prior_logits.shape
        (8, 10)

    References:
        Lee et al. 2018, section 4 (the objective).
    """
    _checks.log_epsilon(epsilon)
    _checks.random_key(key)
    arrays = head_arrays(heads, "logits", "prior_logits", "label_logits")
    labels = _checks.label_array(labels, arrays[0].shape, "logits")
    temperature = _checks.positive_temperature(temperature, arrays[0].dtype)
    return fused_loss(jnp.asarray(key), *arrays, labels, temperature, epsilon=float(epsilon))


def elbo(
    key: jax.Array,
    heads: Heads,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = 0.1,
    epsilon: float = 1e-20,
) -> jax.Array:
    r"""Estimate, from one mask, the variational lower bound of log p(y|x).

    .. math::
        \mathbb{E}_{q(z \mid x, y)}[\log p(y \mid x, z)] - KL(q(z \mid x, y) \| p(z \mid x))

    The negative of the loss without its two regularisers. As τ → 0 its expectation is at most
    log p(y|x), the probability under masks of the prior; at other temperatures the relaxed mask
    stands in for the Bernoulli one, while the KL divergence is that of Bernoulli variables, and
    the bound is an approximation.

    Args:
        key: A random key.
        heads: All three heads, `[..., K]`.
        labels: Class of each example, integers `[...]` in [0, K); undefined result otherwise.
        temperature: τ of the relaxed mask, a positive scalar. A number is checked; a JAX array,
            traced or not, isn't.
        epsilon: ε ≥ 0, a Python number, added to the mask.

    Returns:
        The bound, per example `[...]`, in nats; float64 if a head is, else float32.

    Raises:
        ValueError: A head is missing, shapes do not fit, there is no class, the temperature is not
            positive or ε is negative.
        TypeError: `key` is no key, a head is not floating point, or labels are not integers.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, elbo
        >>> heads = Heads(jnp.zeros((8, 10)), jnp.ones((8, 10)), jnp.zeros((8, 10)))
        >>> elbo(jax.random.key(0), heads, jnp.arange(8)).shape
        (8,)

    References:
        Lee et al. 2018, section 4 (the variational bound).
    """
    log_mask = sample_log_mask(key, posterior_logits(heads), temperature)
    terms = dropmax_loss_terms(heads, labels, log_mask, epsilon)
    return -(terms.cross_entropy + terms.kl_divergence)


def dropmax_log_probs(heads: Heads, epsilon: float = 1e-20) -> jax.Array:
    r"""Log-probabilities of the classes at test time, from the mean ρ of the mask.

    .. math::
        \log p(y=k \mid x) \approx \log\operatorname{softmax}_k(o + \log(\rho + \epsilon))

    Args:
        heads: Heads with `logits` and `prior_logits`, `[..., K]`; `label_logits` is not used.
        epsilon: ε ≥ 0, a Python number, added to the mean mask.

    Returns:
        Log-probabilities `[..., K]`, in nats; float64 if a head is, else float32.

    Raises:
        ValueError: A head is missing or of another shape, there is no class, or ε is negative.
        TypeError: `heads` is no Heads, a head is not floating point, or ε not a Python number.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, dropmax_log_probs
        >>> heads = Heads(jnp.zeros(2), jnp.array([20.0, -20.0]))  # ρ is almost 1, and 0
        >>> print(jnp.exp(dropmax_log_probs(heads)).round(3))
        [1. 0.]

    References:
        Lee et al. 2018, section 4 (the prediction at test time).
    """
    logits, prior = head_arrays(heads, "logits", "prior_logits")
    return jax.nn.log_softmax(dropmax_logits(logits, log_sigmoid(prior), epsilon))


def sample_dropmax_log_probs(
    key: jax.Array,
    heads: Heads,
    num_samples: int,
    *,
    temperature: ArrayLike = 0.1,
    epsilon: float = 1e-20,
) -> jax.Array:
    r"""Log-probabilities of the classes under masks drawn from the prior.

    `dropmax_jax.metrics.mean_log_probs` of them estimates :math:`p(y \mid x) =
    \mathbb{E}_{p(z|x)}[p(y \mid x, z)]`, and `dropmax_jax.metrics.mutual_information` tells how
    much they disagree. To predict, use `dropmax_log_probs`: as a mask may drop any class, the mean
    over masks tends to be less confident than it is accurate.

    Args:
        key: A random key.
        heads: Heads with `logits` and `prior_logits`, `[..., K]`; `label_logits` is not used.
        num_samples: Number of masks, a Python integer of at least 1.
        temperature: τ of the relaxed mask, a positive scalar. A number is checked; a JAX array,
            traced or not, isn't.
        epsilon: ε ≥ 0, a Python number, added to the mask. Where all classes are dropped, ε makes
            the probabilities those of the softmax without a mask.

    Returns:
        Log-probabilities `[num_samples, ..., K]`, in nats; float64 if a head is, else float32.

    Raises:
        ValueError: A head is missing or of another shape, there is no class, or `num_samples`,
            `temperature` or `epsilon` is out of range.
        TypeError: `key` is no key, a head is not floating point, or `num_samples` no integer.

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
    logits, prior = head_arrays(heads, "logits", "prior_logits")
    shape = (num_samples, *logits.shape)
    log_mask = sample_log_mask(key, jnp.broadcast_to(prior, shape), temperature)
    masked = dropmax_logits(jnp.broadcast_to(logits, shape), log_mask, epsilon)
    return jax.nn.log_softmax(masked)


def head_arrays(heads: Heads, *names: str) -> tuple[jax.Array, ...]:
    """The heads of these names, checked, in their common precision; for methods.

    Raises:
        ValueError: A head is missing or of another shape, or there is no class.
        TypeError: `heads` is no Heads, or a head is not floating point.
    """
    if not isinstance(heads, Heads):
        raise TypeError(f"heads must be a dropmax_jax.Heads, but is a {type(heads).__name__}")
    arrays: list[jax.Array] = []
    for name in names:
        value = getattr(heads, name)
        if value is None:
            raise ValueError(f"heads.{name} must be an array [..., K], but is None")
        array = _checks.class_array(f"heads.{name}", value)
        if arrays:
            _checks.same_shape(f"heads.{name}", array, arrays[0].shape, f"heads.{names[0]}")
        arrays.append(array)
    return _checks.promote(*arrays)
