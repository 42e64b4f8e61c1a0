r"""DropMax with masks of the prior in training too, for every class: the label has no say.

The cross-entropy under a mask drawn from p(z|x) bounds that of the marginal likelihood
:math:`\log \mathbb{E}_{p(z \mid x)} p(y \mid x, z)` from above. The target is dropped with
probability :math:`1 - \rho_t`, which is what raises :math:`\rho_t`. The prior's negative entropy
keeps ρ from going to 1 for every class, which would leave a softmax.

This is no row of the paper. Its row q = p always retains the target: `dropmax_prior`.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax.concrete import bernoulli_negative_entropy
from dropmax_jax.heads import Heads
from dropmax_jax.method import Method, Terms
from dropmax_jax.methods.softmax import cross_entropy
from dropmax_jax.prediction import dropmax_log_probs, sample_dropmax_log_probs


def dropmax_marginal_loss_and_terms(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike = 0.1
) -> tuple[jax.Array, Terms]:
    r"""The loss, and its two terms.

    - cross_entropy: :math:`-\log p(y=t \mid x, z)` for a relaxed mask z drawn from p(z|x), target
      included;
    - prior_negative_entropy: :math:`\sum_k \rho_k\log\rho_k + (1-\rho_k)\log(1-\rho_k)`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.dropmax_marginal import dropmax_marginal_loss_and_terms
        >>> heads = Heads(jnp.zeros((8, 10)), jnp.ones((8, 10)))
        >>> loss, terms = dropmax_marginal_loss_and_terms(jax.random.key(0), heads, jnp.arange(8))
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
    loss_and_terms=dropmax_marginal_loss_and_terms,
    predict=dropmax_log_probs,
    sample_log_probs=sample_dropmax_log_probs,
)
