r"""DropMax: a softmax over classes that are dropped at random, each with its own probability.

A network gives three vectors per example, each over the K classes: the class logits o, the logits
of ρ, the probability that a class is retained, and the logits of r, which is trained to regress
the one-hot label. A mask z decides which classes enter the softmax,

.. math::
    p(y=t \mid x, z) = \frac{(z_t + \epsilon) \exp(o_t)}{\sum_k (z_k + \epsilon) \exp(o_k)},

which is the softmax of :math:`o + \log(z + \epsilon)`. The mask's prior is
:math:`p(z_k=1 \mid x) = \rho_k`. Its approximate posterior q also sees the label: it adds the
logits of r to those of ρ, and always retains the target class.

The functions here share these arguments:

- `heads`: `Heads` of floating-point arrays `[..., K]`. A function ignores heads it doesn't name.
- `labels`: the class of each example, integers `[...]` in [0, K); or its distribution, floating
  point `[..., K]`, for the expected loss over labels under one noise. Labels of two classes may be
  booleans. Values are not checked: a label out of range gives an undefined result.
- `where`: booleans. In shape `[...]` they say which examples count: the others have loss 0. In
  shape `[..., K]` they say which classes exist: the others have probability 0 and no term. What
  stands elsewhere does not matter, NaN or not, and its gradient is 0. None counts everything.
- `key`: one random key, of `jax.random.key` or `jax.random.PRNGKey`; take another one each step.
- `axis_name`: the axis of `jax.shard_map` over which classes are spread, if they are. Each device
  has its classes of heads, label distributions and `where`, `[..., K/n]`, and all integer labels.
- `temperature`: τ of the relaxed mask, a positive scalar. A number is checked, a JAX array isn't.
- `epsilon`: ε ≥ 0, a Python number: what a dropped class retains of its weight.

Results are in nats, and in float64 if an array is, else in float32. While tracing, a function
raises `ValueError` for a missing head, a shape that does not fit or a number out of range, and
`TypeError` for a value of the wrong kind.

References:
    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_,
    NeurIPS 2018.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks, _where
from dropmax_jax._classes import Classes
from dropmax_jax._loss import loss_and_terms
from dropmax_jax._loss_terms import LossTerms, loss_terms, masked_logits
from dropmax_jax.heads import Heads, head_arrays


def posterior_logits(heads: Heads) -> jax.Array:
    r"""Logits `[..., K]` of the approximate posterior q(z_k=1|x, y) of the non-target classes.

    .. math::
        \operatorname{logit} q_k = \operatorname{logit} \rho_k + \operatorname{logit} r_k

    No gradient flows into the prior through it: the cross-entropy trains r only, and the KL term
    makes the prior follow q. `dropmax_loss_terms` sees to it that the target is always retained.

    Args:
        heads: With `prior_logits` and `label_logits`.

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

    Any loss or metric of logits can be composed with these, `[..., K]`.

    Args:
        logits: o, the class logits, floating point `[..., K]`.
        log_mask: log z, of the shape of `logits`; minus infinity for a class that is dropped.
        epsilon: With 0, a dropped class has no probability at all.

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
    return masked_logits(logits, log_mask, log_epsilon)


def dropmax_loss_terms(
    heads: Heads,
    labels: ArrayLike,
    log_mask: ArrayLike,
    epsilon: float = 1e-20,
    *,
    where: ArrayLike | None = None,
) -> LossTerms:
    r"""The terms of the DropMax loss for a mask that is given.

    With t the label, :math:`q_k` from `posterior_logits`, and sums over the K classes:

    - cross-entropy: :math:`-\log p(y=t \mid x, z)`, where :math:`z_t = 1` whatever `log_mask`
      says of the target;
    - KL divergence: :math:`-\log\rho_t + \sum_{k \ne t} \operatorname{KL}(q_k \| \rho_k)`;
    - label regression: :math:`-\log r_t - \sum_{k \ne t} \log(1 - r_k)`;
    - negative entropy of the prior: :math:`\sum_k \rho_k\log\rho_k + (1-\rho_k)\log(1-\rho_k)`.

    Args:
        heads: All three.
        labels: Integers `[...]`, or probabilities `[..., K]`.
        log_mask: log z, `[..., K]`, as drawn from the posterior by `sample_log_mask`.
        epsilon: Added to the mask.
        where: Which examples count, or which classes exist.

    Returns:
        The terms, `[...]` each.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, dropmax_loss_terms, posterior_logits, sample_log_mask
        >>> heads = Heads(jnp.zeros((8, 10)), jnp.ones((8, 10)), jnp.zeros((8, 10)))
        >>> log_mask = sample_log_mask(jax.random.key(0), posterior_logits(heads))
        >>> terms = dropmax_loss_terms(heads, jnp.zeros(8, jnp.int32), log_mask)
        >>> print(f"{terms.kl_divergence[0]:.4f}")  # q = ρ but for the target: -log ρ_t
        0.3133

    References:
        Lee et al. 2018, sections 3 and 4 (the variational bound and the regularisers).
    """
    counts, arrays = _where.head_arrays_of(where, heads, *Heads._fields)
    target = _checks.target(counts.labels(labels), arrays[0], "logits")
    log_mask = _checks.class_array("log_mask", log_mask)
    _checks.same_shape("log_mask", log_mask, arrays[0].shape, "logits")
    log_mask = counts.zeros(log_mask)
    log_mask, logits, prior, label = _checks.promote(log_mask, *arrays)
    if target.dtype != jnp.bool_:
        target = target.astype(logits.dtype)
    log_epsilon = _checks.log_epsilon(epsilon)
    terms = loss_terms(Classes(), target, log_mask, logits, prior, label, log_epsilon)
    return LossTerms(*map(counts.per_example, terms))


def dropmax_loss(
    key: jax.Array,
    heads: Heads,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    weights: LossTerms | None = None,
    temperature: ArrayLike = 0.1,
    epsilon: float = 1e-20,
    axis_name: str | None = None,
) -> jax.Array:
    r"""The DropMax loss: `dropmax_loss_terms` for a mask drawn from the posterior, added up.

    This is an unbiased estimate, from one mask, of the negative variational bound with the relaxed
    mask, plus the two regularisers. Train on its mean over the batch.

    Args:
        key: For the mask.
        heads: All three.
        labels: Integers `[...]`, or probabilities `[..., K]`.
        where: Which examples count, or which classes exist. Take the mean over the examples that
            count: `jnp.mean(loss, where=where)`.
        weights: A factor for each term, scalars that may be traced: for KL warm-up, or for
            annealing the entropy. None for 1, 1, 1, 1.
        temperature: Of the relaxed mask.
        epsilon: Added to the mask.
        axis_name: The axis over which classes are spread.

    Returns:
        The loss, per example `[...]`.

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
    return loss_and_terms(key, heads, labels, where, weights, temperature, epsilon, axis_name)[0]


def dropmax_loss_and_terms(
    key: jax.Array,
    heads: Heads,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    weights: LossTerms | None = None,
    temperature: ArrayLike = 0.1,
    epsilon: float = 1e-20,
    axis_name: str | None = None,
) -> tuple[jax.Array, LossTerms]:
    """`dropmax_loss` and its four terms in one pass, for `jax.value_and_grad(..., has_aux=True)`.

    Returns:
        The loss `[...]`, the weighted sum of the terms; and the terms, `[...]` each, unweighted.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, dropmax_loss_and_terms
        >>> heads = Heads(jnp.zeros((8, 10)), jnp.ones((8, 10)), jnp.zeros((8, 10)))
        >>> loss, terms = dropmax_loss_and_terms(jax.random.key(0), heads, jnp.arange(8))
        >>> bool(jnp.allclose(loss, sum(terms)))
        True
    """
    args = key, heads, labels, where, weights, temperature, epsilon, axis_name
    loss, terms = loss_and_terms(*args, with_terms=True)
    return loss, LossTerms(*terms)


def elbo(
    key: jax.Array,
    heads: Heads,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    temperature: ArrayLike = 0.1,
    epsilon: float = 1e-20,
    axis_name: str | None = None,
) -> jax.Array:
    r"""Estimates, from one mask, the variational lower bound `[...]` of log p(y|x).

    .. math::
        \mathbb{E}_{q(z \mid x, y)}[\log p(y \mid x, z)]
            - \operatorname{KL}(q(z \mid x, y) \| p(z \mid x))

    This is the negative of the loss without its two regularisers. As τ → 0 its expectation is at
    most log p(y|x), the probability under masks of the prior. At other temperatures it is an
    approximation, as the mask is relaxed and the KL divergence that of Bernoulli variables.

    Args:
        key: For the mask.
        heads: All three.
        labels: Integers `[...]`, or probabilities `[..., K]`.
        where: Which examples count, or which classes exist.
        temperature: Of the relaxed mask.
        epsilon: Added to the mask.
        axis_name: The axis over which classes are spread.

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
    weights = LossTerms(1.0, 1.0, 0.0, 0.0)  # type: ignore[arg-type]
    return -loss_and_terms(key, heads, labels, where, weights, temperature, epsilon, axis_name)[0]
