r"""DropMax for many classes: its loss with a balanced regression of the label.

In DropMax's loss, r regresses the one-hot label by a binary cross-entropy summed over the K
classes. One class of K is the target, so as long as r has learnt nothing of the image it is near
1/K. Then nearly every non-target class is dropped, and the class logits hardly get a gradient. The
more classes there are, the longer this takes to pass.

Here the target's term counts as much as all others together:

.. math::
    \frac{4}{K} \Big[ (K-1) (-\log r_t) - \sum_{k \ne t} \log(1 - r_k) \Big]

Each side has a weight of :math:`4 (K-1) / K`, below 4 whatever K. For two classes this is twice
DropMax's own.

The usual regression learns the posterior log-odds of a label: the evidence of the image, plus the
prior log-odds :math:`-\log(K-1)`. The balanced one learns the evidence alone, a log-likelihood
ratio. It is 0, and q = ρ, where the image says nothing.

The functions share the arguments and errors of `dropmax_jax.dropmax`.
"""

import jax
from jax.typing import ArrayLike

from dropmax_jax._loss import loss_and_terms
from dropmax_jax._loss_terms import LossTerms
from dropmax_jax.heads import Heads


def dropmax_balanced_loss(
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
    """`dropmax_loss` with the balanced label regression, per example `[...]`.

    Its arguments are those of `dropmax_loss`. K counts the classes that exist.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, dropmax_balanced_loss
        >>> heads = Heads(*jnp.zeros((3, 8, 100)))
        >>> dropmax_balanced_loss(jax.random.key(0), heads, jnp.arange(8)).shape
        (8,)
    """
    return loss_and_terms(
        key, heads, labels, where, weights, temperature, epsilon, axis_name, balanced=True
    )[0]


def dropmax_balanced_loss_and_terms(
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
    """`dropmax_balanced_loss` and its four terms in one pass.

    Returns:
        The loss `[...]`, the weighted sum of the terms; and the terms, `[...]` each, unweighted.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, dropmax_balanced_loss_and_terms
        >>> heads = Heads(*jnp.zeros((3, 8, 100)))
        >>> _, terms = dropmax_balanced_loss_and_terms(jax.random.key(0), heads, jnp.arange(8))
        >>> print(f"{terms.label_regression[0]:.3f}")  # 8 (K - 1) / K log 2
        5.490
    """
    args = key, heads, labels, where, weights, temperature, epsilon, axis_name
    loss, terms = loss_and_terms(*args, balanced=True, with_terms=True)
    return loss, LossTerms(*terms)
