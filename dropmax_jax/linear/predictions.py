"""Predictions; `dropmax_jax.linear` says what their arguments are."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks, _sharding
from dropmax_jax._classes import Classes
from dropmax_jax.heads import Heads
from dropmax_jax.linear import _arguments, _predictions
from dropmax_jax.linear._arguments import Arguments
from dropmax_jax.linear._division import Known
from dropmax_jax.linear._reductions import Setting

_HEADS = ("logits", "prior_logits")


def dropmax_linear_log_probs(
    features: ArrayLike,
    classes: ArrayLike,
    kernels: Heads,
    biases: Heads | None = None,
    *,
    where: ArrayLike | None = None,
    epsilon: float = 1e-20,
    block_size: tuple[int, int] | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """`dropmax_log_probs` of linear heads, of chosen classes.

    This gathers the kernels' columns of the chosen classes, `[..., C, D]`, so choose few for each
    example. For the likeliest, use `dropmax_linear_top_k`.

    Args:
        features: `[..., D]`.
        classes: Their numbers, integers `[..., C]`. Numbers out of range give undefined results.
        kernels: With `logits` and `prior_logits`.
        biases: With these two.
        where: Which classes exist, or which examples count.
        epsilon: Added to the mean mask.
        block_size: Of examples and classes.
        axis_name: The axis over which classes are spread.

    Returns:
        Log-probabilities `[..., C]`, with derivatives.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, dropmax_linear_log_probs
        >>> features, kernels = jnp.ones((8, 16)), Heads(*jnp.zeros((2, 16, 1000)))
        >>> labels = jnp.arange(8)
        >>> log_probs = dropmax_linear_log_probs(features, labels[:, None], kernels)
        >>> print(f"{jnp.exp(-log_probs.mean()):.1f}")  # the perplexity
        1000.0
    """
    given, known, setting = _parse(features, kernels, biases, where, epsilon, block_size, axis_name)
    numbers = _checks.int_array("classes", classes)
    if numbers.ndim == 0 or numbers.shape[:-1] != given.batch:
        expected = ", ".join(map(str, (*given.batch, "C")))
        raise ValueError(
            f"classes must have shape ({expected}), C classes for each example, "
            f"but has shape {numbers.shape}"
        )
    if given.num_rows == 0:
        return jnp.zeros(numbers.shape, given.dtype)
    flat = numbers.reshape(given.num_rows, -1).astype(jnp.int32)
    run = functools.partial(_predictions.chosen, plans=given.plans, setting=setting)
    found: jax.Array = _sharding.by_compiler(run, given.rows, given.layers, known, flat)
    return found.reshape(numbers.shape)


def dropmax_linear_top_k(
    features: ArrayLike,
    k: int,
    kernels: Heads,
    biases: Heads | None = None,
    *,
    where: ArrayLike | None = None,
    epsilon: float = 1e-20,
    block_size: tuple[int, int] | None = None,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The largest of `dropmax_log_probs` of linear heads.

    Args:
        features: `[..., D]`.
        k: How many, a Python integer from 1 to the number of classes.
        kernels: With `logits` and `prior_logits`.
        biases: With these two.
        where: Which classes exist, or which examples count.
        epsilon: Added to the mean mask.
        block_size: Of examples and classes.
        axis_name: The axis over which classes are spread.

    Returns:
        Log-probabilities `[..., k]` from the largest down, and the numbers of their classes. If
        fewer than k classes exist, the remaining log-probabilities are minus infinity, and their
        classes 0.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads, dropmax_linear_top_k
        >>> kernels = Heads(jnp.arange(5.0)[None], jnp.zeros((1, 5)))
        >>> log_probs, classes = dropmax_linear_top_k(jnp.ones((8, 1)), 2, kernels)
        >>> print(classes[0], f"{jnp.exp(log_probs[0, 0]):.3f}")
        [4 3] 0.636
    """
    given, known, setting = _parse(features, kernels, biases, where, epsilon, block_size, axis_name)
    k = _checks.positive_int("k", k)
    if k > setting.shape[1]:
        raise ValueError(f"k must be at most the {setting.shape[1]} classes, but is {k}")
    shape = (*given.batch, k)
    if given.num_rows == 0:
        return jnp.zeros(shape, given.dtype), jnp.zeros(shape, jnp.int32)
    run = functools.partial(_predictions.top_k, k, plans=given.plans, setting=setting)
    log_probs, numbers = _sharding.by_compiler(run, given.rows, given.layers, known)
    return log_probs.reshape(shape), numbers.reshape(shape)


def _parse(
    features: ArrayLike,
    kernels: Heads,
    biases: Heads | None,
    where: ArrayLike | None,
    epsilon: float,
    block_size: tuple[int, int] | None,
    axis_name: str | None,
) -> tuple[Arguments, Known, Setting]:
    _checks.log_epsilon(epsilon)
    _checks.axis("axis_name", axis_name)
    classes = Classes(axis_name)
    given = _arguments.parse_heads(features, kernels, biases, _HEADS, where, classes, block_size)
    known = _arguments.known(given, jnp.zeros(given.batch, jnp.int32), classes)
    return given, known, _arguments.setting(given, classes, epsilon=epsilon)
