"""How well a score detects errors or unfamiliar inputs."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks
from dropmax_jax._sharding import together
from dropmax_jax.metrics._examples import mean, sort_kept_first


def auroc(
    scores: ArrayLike, is_positive: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Area under the ROC curve: how well a score tells positives from negatives.

    The probability that the score of a random positive exceeds that of a random negative, where a
    tie counts half: 1 for a perfect detector, 0.5 for one that knows nothing. Score errors or
    unfamiliar inputs by `predictive_entropy` or `mutual_information`.

    Args:
        scores: Higher for what is more likely positive, floating point `[...]`, not NaN.
        is_positive: Which examples are positive, booleans `[...]`.
        where: Which examples count; all by default.

    Returns:
        A scalar in [0, 1]; NaN if there are no positives or no negatives.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import auroc
        >>> print(auroc(jnp.array([0.1, 0.4, 0.4, 0.8]), jnp.array([False, False, True, True])))
        0.875

    References:
        Hanley and McNeil, The Meaning and Use of the Area under a Receiver Operating
        Characteristic (ROC) Curve, 1982.
    """
    scores, is_positive, where = _scores_and_flags(
        "scores", scores, "is_positive", is_positive, where
    )
    order = jnp.argsort(scores)
    is_negative = ~is_positive
    if where is not None:
        is_positive, is_negative = is_positive & where, is_negative & where
    negatives = jnp.cumsum(is_negative[order].astype(jnp.int32))
    negatives = jnp.concatenate([jnp.zeros(1, jnp.int32), negatives])
    below = negatives[jnp.searchsorted(scores[order], scores, side="left")]
    up_to = negatives[jnp.searchsorted(scores[order], scores, side="right")]
    # A fraction for each positive rather than one sum of ranks, which float32 would round.
    num_negative, num_positive = (
        jnp.sum(flags).astype(scores.dtype) for flags in (is_negative, is_positive)
    )
    wins = (below + up_to).astype(scores.dtype) / (2.0 * num_negative)
    return jnp.sum(jnp.where(is_positive, wins, 0.0)) / num_positive


def risk_coverage(
    uncertainties: ArrayLike, is_error: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Risk–coverage curve: the error rate where only the surest predictions are made.

    Args:
        uncertainties: Lower for what is surer, floating point `[...]` of N examples, not NaN.
        is_error: Which predictions are wrong, booleans `[...]`.
        where: Which examples count; all by default.

    Returns:
        `[N]`: the error rate among the n surest examples, for n from 1 to N. Equally sure ones
        come in every order with equal probability, and the rate is its expectation. NaN for n
        beyond the number of examples that count.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import risk_coverage
        >>> print(risk_coverage(jnp.array([0.9, 0.1, 0.5, 0.5]), jnp.array([True] + [False] * 3)))
        [0.   0.   0.   0.25]

    References:
        El-Yaniv and Wiener, On the Foundations of Noise-free Selective Classification, JMLR 2010;
        Geifman and El-Yaniv, `Selective Classification for Deep Neural Networks
        <https://arxiv.org/abs/1705.08500>`_, 2017.
    """
    curve, is_kept = _curve(uncertainties, is_error, where)
    return curve if is_kept is None else jnp.where(is_kept, curve, jnp.nan)


def area_under_risk_coverage(
    uncertainties: ArrayLike, is_error: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Area under the curve of `risk_coverage` (AURC): its mean over all coverages.

    Args:
        uncertainties: Lower for what is surer, floating point `[...]`, not NaN.
        is_error: Which predictions are wrong, booleans `[...]`.
        where: Which examples count; all by default.

    Returns:
        A scalar in [0, 1]: low where errors are few and the model knows which they are.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import area_under_risk_coverage
        >>> uncertainties, is_error = jnp.array([0.9, 0.1]), jnp.array([True, False])
        >>> print(area_under_risk_coverage(uncertainties, is_error))
        0.25

    References:
        Geifman, Uziel and El-Yaniv, `Bias-Reduced Uncertainty Estimation for Deep Neural
        Classifiers <https://arxiv.org/abs/1805.08206>`_, 2019, section 2.
    """
    return mean(*_curve(uncertainties, is_error, where))


def _curve(
    uncertainties: ArrayLike, is_error: ArrayLike, where: ArrayLike | None
) -> tuple[jax.Array, jax.Array | None]:
    """The curve `[N]`, and at which of its points another example that counts comes in."""
    scores, is_error, where = _scores_and_flags(
        "uncertainties", uncertainties, "is_error", is_error, where
    )
    order = sort_kept_first(scores, where)
    ordered = scores[order]
    # Compared, not subtracted: the difference of two tiny scores is 0 on some devices.
    is_new = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] > ordered[:-1]])
    ties = jnp.cumsum(is_new)
    if where is None:
        errors = is_error[order].astype(jnp.int32)
        ones = jnp.ones_like(errors)
    else:
        errors = (is_error & where)[order].astype(jnp.int32)
        ones = where[order].astype(jnp.int32)
    sums, counts = (
        jax.ops.segment_sum(values, ties, num_segments=scores.size) for values in (errors, ones)
    )
    rates = sums.astype(scores.dtype) / jnp.maximum(counts, 1).astype(scores.dtype)
    curve = jnp.cumsum(rates[ties]) / jnp.arange(1, scores.size + 1, dtype=scores.dtype)
    return curve, None if where is None else where[order]


def _scores_and_flags(
    scores_name: str,
    scores: ArrayLike,
    flags_name: str,
    flags: ArrayLike,
    where: ArrayLike | None,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    (array,) = _checks.promote(_checks.float_array(scores_name, scores))
    booleans = _checks.bool_array(flags_name, flags)
    _checks.same_shape(flags_name, booleans, array.shape, scores_name)
    if array.size == 0:
        raise ValueError(f"{scores_name} must have an example, but has shape {array.shape}")
    mask = _checks.example_mask(where, array.shape, scores_name)
    # A sort needs all scores on one device.
    array, booleans = together(array).ravel(), together(booleans).ravel()
    if mask is None:
        return array, booleans, None
    mask = together(mask).ravel()
    # Scores that do not count may be NaN.
    return jnp.where(mask, array, 0.0), booleans, mask
