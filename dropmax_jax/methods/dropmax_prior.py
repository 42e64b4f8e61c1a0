r"""DropMax with q = p: masks come from the prior in training too, and the label has no say.

With q(z|x, y) = p(z|x) put into DropMax's loss, the KL divergence is 0, and r, which only shifts q
away from p, has no use. What is left is the cross-entropy under a mask of the prior and the
prior's negative entropy, without which ρ went to 1 for every class in a trial on 1,000 digits,
leaving a softmax. As q is the prior for every class, the target too is dropped with probability
:math:`1 - \rho_t`: were it always retained, nothing but the entropy would raise :math:`\rho_t`.

References:
    Lee et al., `DropMax: Adaptive Variational Softmax <https://arxiv.org/abs/1712.07834>`_,
    NeurIPS 2018, the row q = p of the table of test errors.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax.concrete import bernoulli_negative_entropy
from dropmax_jax.dropmax import Heads, sample_dropmax_log_probs
from dropmax_jax.methods.dropmax import mean_mask_log_probs
from dropmax_jax.methods.method import Method
from dropmax_jax.methods.softmax import cross_entropy


def dropmax_prior_loss_terms(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike = 0.1
) -> dict[str, jax.Array]:
    r"""The terms of DropMax's loss where the prior is also the posterior.

    - cross_entropy: :math:`-\log p(y=t \mid x, z)` for a relaxed mask z drawn from p(z|x), target
      included;
    - prior_negative_entropy: :math:`\sum_k \rho_k\log\rho_k + (1-\rho_k)\log(1-\rho_k)`.

    Args:
        key: A random key, another one each step.
        heads: Heads with `logits` and `prior_logits`, `[..., K]`.
        labels: Class of each example, integers `[...]` in [0, K); undefined result otherwise.
        temperature: τ of the relaxed mask, a positive scalar. A number is checked; a JAX array,
            traced or not, isn't.

    Returns:
        The two terms, per example `[...]`, in nats; float64 if a head is, else float32.

    Raises:
        ValueError: A head is missing, shapes do not fit, there is no class, or the temperature is
            not positive.
        TypeError: `key` is no key, a head is not floating point, or labels are not integers.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.dropmax_prior import dropmax_prior_loss_terms
        >>> heads = Heads(jnp.zeros((8, 10)), jnp.ones((8, 10)))
        >>> terms = dropmax_prior_loss_terms(jax.random.key(0), heads, jnp.arange(8))
        >>> {name: term.shape for name, term in terms.items()}
        {'cross_entropy': (8,), 'prior_negative_entropy': (8,)}
    """
    (log_probs,) = sample_dropmax_log_probs(key, heads, 1, temperature=temperature)
    prior = jnp.asarray(heads.prior_logits, log_probs.dtype)
    return {
        "cross_entropy": cross_entropy(log_probs, labels),
        "prior_negative_entropy": jnp.sum(bernoulli_negative_entropy(prior), axis=-1),
    }


def dropmax_prior_loss(
    key: jax.Array, heads: Heads, labels: ArrayLike, *, temperature: ArrayLike = 0.1
) -> jax.Array:
    """The sum of `dropmax_prior_loss_terms`, which has the arguments and errors, `[...]` in nats.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.dropmax_prior import dropmax_prior_loss
        >>> heads = Heads(jnp.zeros((8, 10)), jnp.ones((8, 10)))
        >>> dropmax_prior_loss(jax.random.key(0), heads, jnp.arange(8)).shape
        (8,)
    """
    terms = dropmax_prior_loss_terms(key, heads, labels, temperature=temperature)
    return terms["cross_entropy"] + terms["prior_negative_entropy"]


dropmax_prior = Method(
    heads=("logits", "prior_logits"),
    loss=dropmax_prior_loss,
    log_probs=mean_mask_log_probs,
    loss_terms=dropmax_prior_loss_terms,
    sample_log_probs=sample_dropmax_log_probs,
)
