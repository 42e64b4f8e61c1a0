"""DropMax's loss of arguments that are not checked yet."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks, _where
from dropmax_jax._classes import Classes
from dropmax_jax._fused import fused_loss
from dropmax_jax._loss_terms import LossTerms
from dropmax_jax.heads import Heads


def loss_and_terms(
    key: jax.Array,
    heads: Heads,
    labels: ArrayLike,
    where: ArrayLike | None,
    weights: LossTerms | None,
    temperature: ArrayLike,
    epsilon: float,
    axis_name: str | None,
    *,
    balanced: bool = False,
    with_terms: bool = False,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """The loss `[...]` and its terms, if they are asked for; see `dropmax_loss`.

    With `balanced`, the label regression is that of `dropmax_balanced_loss`.
    """
    _checks.log_epsilon(epsilon)
    _checks.random_key(key)
    _checks.axis("axis_name", axis_name)
    counts, arrays = _where.head_arrays_of(where, heads, *Heads._fields, axis_name=axis_name)
    labels = _checks.soft_labels(counts.labels(labels), arrays[0].shape, "logits")
    dtype = arrays[0].dtype
    if jnp.issubdtype(labels.dtype, jnp.floating):
        labels = labels.astype(dtype)
    classes = Classes(axis_name, balanced=balanced)
    num_classes = None
    if balanced and counts.classes is not None:
        # An example without classes has no loss, whatever is divided by their number.
        num_classes = jnp.maximum(classes.sum(counts.classes.astype(dtype)), 1.0)
    loss, terms = fused_loss(
        jnp.asarray(key),
        arrays,
        labels,
        _checks.positive("temperature", temperature, dtype),
        weight_array(weights, dtype),
        num_classes,
        epsilon=float(epsilon),
        classes=classes,
        with_terms=with_terms,
    )
    return counts.per_example(loss), tuple(map(counts.per_example, terms))


def weight_array(weights: LossTerms | None, dtype: jnp.dtype) -> jax.Array:
    """The factors of the terms, `[4]`."""
    if weights is None:
        return jnp.ones(len(LossTerms._fields), dtype)
    if not isinstance(weights, LossTerms):
        raise TypeError(f"weights must be a LossTerms, but is a {type(weights).__name__}")
    return jnp.stack(
        [
            _checks.scalar(f"weights.{name}", weight, dtype)
            for name, weight in weights._asdict().items()
        ]
    )
