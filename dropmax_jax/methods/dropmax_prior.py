r"""DropMax with q = p: masks come from the prior in training too, and the label has no say.

With q(z|x, y) = p(z|x) in DropMax's loss, the KL divergence is 0, and r, which only shifts q away
from p, has no use. The cross-entropy under a mask of the prior and the prior's negative entropy
remain. Without the entropy, ρ went to 1 for every class in a trial on 1,000 digits, which leaves a
softmax. As q is the prior for every class, the target too is dropped with probability
:math:`1 - \rho_t`: if it were always retained, nothing but the entropy would raise :math:`\rho_t`.

References:
    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_,
    NeurIPS 2018, the row q = p of the table of test errors.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax.concrete import bernoulli_negative_entropy
from dropmax_jax.heads import Heads
from dropmax_jax.method import Method, Terms
from dropmax_jax.methods.softmax import cross_entropy
from dropmax_jax.prediction import dropmax_log_probs, sample_dropmax_log_probs


def dropmax_prior_loss_and_terms(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike = 0.1
) -> tuple[jax.Array, Terms]:
    r"""DropMax's loss where the prior is also the posterior, and its two terms.

    - cross_entropy: :math:`-\log p(y=t \mid x, z)` for a relaxed mask z drawn from p(z|x), target
      included;
    - prior_negative_entropy: :math:`\sum_k \rho_k\log\rho_k + (1-\rho_k)\log(1-\rho_k)`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.dropmax_prior import dropmax_prior_loss_and_terms
        >>> heads = Heads(jnp.zeros((8, 10)), jnp.ones((8, 10)))
        >>> loss, terms = dropmax_prior_loss_and_terms(jax.random.key(0), heads, jnp.arange(8))
        >>> list(terms)
        ['cross_entropy', 'prior_negative_entropy']
    """
    (log_probs,) = sample_dropmax_log_probs(key, heads, 1, temperature=temperature)
    prior = jnp.asarray(heads.prior_logits, log_probs.dtype)
    nll = cross_entropy(log_probs, labels)
    negative_entropy = jnp.sum(bernoulli_negative_entropy(prior), axis=-1)
    terms = {"cross_entropy": nll, "prior_negative_entropy": negative_entropy}
    return nll + negative_entropy, terms


METHOD = Method(
    heads=("logits", "prior_logits"),
    loss_and_terms=dropmax_prior_loss_and_terms,
    predict=dropmax_log_probs,
    sample_log_probs=sample_dropmax_log_probs,
)
