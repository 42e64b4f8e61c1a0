"""The losses; `dropmax_jax.linear` says what their arguments are."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks, _sharding
from dropmax_jax._classes import Classes
from dropmax_jax._loss import weight_array
from dropmax_jax._loss_terms import LossTerms
from dropmax_jax.heads import Heads
from dropmax_jax.linear import _arguments, _terms


def softmax_linear_loss(
    features: ArrayLike,
    labels: ArrayLike,
    kernel: Any,
    bias: ArrayLike | None = None,
    *,
    where: ArrayLike | None = None,
    label_smoothing: float = 0.0,
    block_size: tuple[int, int] | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """The softmax cross-entropy `[...]` of linear class logits.

    Args:
        features: `[..., D]`.
        labels: Integers `[...]`.
        kernel: `[D, K]`, or a pair of factors.
        bias: `[K]`.
        where: Which examples count, or which classes exist.
        label_smoothing: Which part of a label is spread over all classes.
        block_size: Of examples and classes.
        axis_name: The axis over which classes are spread.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import softmax_linear_loss
        >>> features, kernel = jnp.ones((8, 16)), jnp.zeros((16, 1000))
        >>> loss = softmax_linear_loss(features, jnp.arange(8), kernel)
        >>> print(f"{loss[0]:.4f}")  # log 1000
        6.9078
    """
    _checks.axis("axis_name", axis_name)
    added = None if bias is None else {"bias": bias}
    classes = Classes(axis_name)
    given = _arguments.parse(features, {"kernel": kernel}, added, where, classes, block_size)
    labels = _arguments.labels(labels, given)
    known = _arguments.known(given, labels, classes)
    setting = _arguments.setting(given, classes, label_smoothing)
    if given.num_rows == 0:
        return jnp.zeros(given.batch, given.dtype)
    run = functools.partial(_terms.softmax, plans=given.plans, setting=setting)
    loss = _sharding.by_compiler(run, given.rows, given.layers, known)
    return given.counted.per_example(loss).reshape(given.batch)


def dropmax_linear_loss(
    key: jax.Array,
    features: ArrayLike,
    labels: ArrayLike,
    kernels: Heads,
    biases: Heads | None = None,
    *,
    where: ArrayLike | None = None,
    weights: LossTerms | None = None,
    temperature: ArrayLike = 0.1,
    epsilon: float = 1e-20,
    label_smoothing: float = 0.0,
    balanced: bool = False,
    block_size: tuple[int, int] | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """`dropmax_loss` of linear heads, per example `[...]`.

    Args:
        key: For the mask.
        features: `[..., D]`.
        labels: Integers `[...]`.
        kernels: All three, `[D, K]` each, or pairs of factors.
        biases: All three, `[K]` each.
        where: Which examples count, or which classes exist.
        weights: A factor for each term.
        temperature: Of the relaxed mask.
        epsilon: Added to the mask.
        label_smoothing: Which part of a label is spread over all classes. Above 0, it doubles the
            matrix products.
        balanced: Whether to give `dropmax_balanced_loss`, for thirty classes or more.
        block_size: Of examples and classes.
        axis_name: The axis over which classes are spread.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, dropmax_linear_loss
        >>> features, kernels = jnp.ones((8, 16)), Heads(*jnp.zeros((3, 16, 1000)))
        >>> def mean_loss(features, kernels, key):
        ...     losses = dropmax_linear_loss(key, features, jnp.arange(8), kernels, balanced=True)
        ...     return losses.mean()
        >>> gradients = jax.grad(mean_loss, (0, 1))(features, kernels, jax.random.key(0))
        >>> gradients[1].prior_logits.shape
        (16, 1000)
    """
    return dropmax_linear_loss_and_terms(
        key,
        features,
        labels,
        kernels,
        biases,
        where=where,
        weights=weights,
        temperature=temperature,
        epsilon=epsilon,
        label_smoothing=label_smoothing,
        balanced=balanced,
        block_size=block_size,
        axis_name=axis_name,
    )[0]


def dropmax_linear_loss_and_terms(
    key: jax.Array,
    features: ArrayLike,
    labels: ArrayLike,
    kernels: Heads,
    biases: Heads | None = None,
    *,
    where: ArrayLike | None = None,
    weights: LossTerms | None = None,
    temperature: ArrayLike = 0.1,
    epsilon: float = 1e-20,
    label_smoothing: float = 0.0,
    balanced: bool = False,
    block_size: tuple[int, int] | None = None,
    axis_name: str | None = None,
) -> tuple[jax.Array, LossTerms]:
    """`dropmax_linear_loss` and its four terms in one pass.

    Returns:
        The loss `[...]`, the weighted sum of the terms; and the terms, `[...]` each, unweighted.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, dropmax_linear_loss_and_terms
        >>> features, kernels = jnp.ones((8, 16)), Heads(*jnp.zeros((3, 16, 1000)))
        >>> loss, terms = dropmax_linear_loss_and_terms(
        ...     jax.random.key(0), features, jnp.arange(8), kernels
        ... )
        >>> print(f"{terms.prior_negative_entropy[0]:.2f}")  # -1000 log 2
        -693.15
    """
    _checks.log_epsilon(epsilon)
    _checks.random_key(key)
    _checks.axis("axis_name", axis_name)
    if not isinstance(balanced, bool):
        raise TypeError(f"balanced must be True or False, but is {_checks.describe(balanced)}")
    classes = Classes(axis_name, balanced=balanced)
    given = _arguments.parse_heads(
        features, kernels, biases, Heads._fields, where, classes, block_size
    )
    labels = _arguments.labels(labels, given)
    known = _arguments.known(given, labels, classes, key)
    setting = _arguments.setting(given, classes, label_smoothing, epsilon)
    # The slope of a temperature that is a number would be computed for nobody.
    setting = setting._replace(learns_temperature=isinstance(temperature, jax.Array))
    temperature = _checks.positive("temperature", temperature, given.dtype)
    factors = weight_array(weights, given.dtype)
    if given.num_rows == 0:
        nothing = jnp.zeros(given.batch, given.dtype)
        return nothing, LossTerms(nothing, nothing, nothing, nothing)
    run = functools.partial(_terms.dropmax, plans=given.plans, setting=setting)
    found = _sharding.by_compiler(run, given.rows, given.layers, known, temperature)
    terms = [given.counted.per_example(term).reshape(given.batch) for term in found]
    loss = sum(factors[i] * term for i, term in enumerate(terms))
    return jnp.asarray(loss), LossTerms(*terms)
