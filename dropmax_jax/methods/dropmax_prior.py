r"""DropMax with q = p: the mask's posterior is its prior, but for the target.

q(z|x, y) is p(z|x) with the target's mask fixed at 1. So of the KL divergence only the target's
:math:`-\log\rho_t` remains, and r, which shifts q away from p, has no use. The cross-entropy trains
ρ directly, through the masks of the other classes.

References:
    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_,
    NeurIPS 2018, the row q = p of the table of test errors.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax.concrete import sample_log_mask
from dropmax_jax.dropmax import dropmax_loss_terms
from dropmax_jax.heads import Heads, head_arrays
from dropmax_jax.method import Method, Terms
from dropmax_jax.prediction import dropmax_log_probs, sample_dropmax_log_probs


def dropmax_prior_loss_and_terms(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike = 0.1
) -> tuple[jax.Array, Terms]:
    r"""DropMax's loss where the posterior is the prior but for the target, and its three terms.

    - cross_entropy: :math:`-\log p(y=t \mid x, z)` for :math:`z_t = 1` and a relaxed mask of the
      other classes drawn from p(z|x);
    - kl_divergence: :math:`-\log\rho_t`;
    - prior_negative_entropy: :math:`\sum_k \rho_k\log\rho_k + (1-\rho_k)\log(1-\rho_k)`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.dropmax_prior import dropmax_prior_loss_and_terms
        >>> heads = Heads(jnp.zeros((8, 10)), jnp.ones((8, 10)))
        >>> loss, terms = dropmax_prior_loss_and_terms(jax.random.key(0), heads, jnp.arange(8))
        >>> print(f"{terms['kl_divergence'][0]:.4f}")  # -log ρ_t
        0.3133
    """
    logits, prior = head_arrays(heads, "logits", "prior_logits")
    log_mask = sample_log_mask(key, prior, temperature)
    # With r = 1/2 the posterior is the prior, whose KL divergences are 0.
    terms = dropmax_loss_terms(Heads(logits, prior, jnp.zeros_like(prior)), labels, log_mask)
    kept = {
        name: getattr(terms, name)
        for name in ("cross_entropy", "kl_divergence", "prior_negative_entropy")
    }
    return jnp.asarray(sum(kept.values())), kept


METHOD = Method(
    heads=("logits", "prior_logits"),
    loss_and_terms=dropmax_prior_loss_and_terms,
    predict=dropmax_log_probs,
    sample_log_probs=sample_dropmax_log_probs,
)
