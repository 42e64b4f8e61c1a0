"""How well confidence agrees with accuracy."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dropmax_jax import _checks
from dropmax_jax.metrics._examples import examples, is_correct


class ReliabilityBins(NamedTuple):
    """What a reliability diagram shows, per bin of confidence `[num_bins]`.

    Attributes:
        counts: Number of examples in the bin.
        confidence: Mean probability of the class predicted; 0 in an empty bin.
        accuracy: Fraction of the predictions that are right; 0 in an empty bin.
    """

    counts: jax.Array
    confidence: jax.Array
    accuracy: jax.Array


def expected_calibration_error(
    log_probs: ArrayLike, labels: ArrayLike, num_bins: int = 15
) -> jax.Array:
    """Expected calibration error (ECE), in bins of equal width.

    The gap between accuracy and mean confidence in each of `reliability_bins`, averaged over bins
    by the number of examples in them.

    Returns:
        A scalar in [0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import expected_calibration_error
        >>> log_probs = jnp.log(jnp.array([[0.75, 0.25], [0.75, 0.25]]))
        >>> print(expected_calibration_error(log_probs, jnp.array([0, 1])))
        0.25

    References:
        Guo et al., `On Calibration of Modern Neural Networks
        <https://arxiv.org/abs/1706.04599>`_, 2017, equation 3.
    """
    return _weighted_gap(reliability_bins(log_probs, labels, num_bins))


def adaptive_calibration_error(
    log_probs: ArrayLike, labels: ArrayLike, num_bins: int = 15
) -> jax.Array:
    """Expected calibration error in bins of equal mass: of as many examples each, to within one.

    Returns:
        A scalar in [0, 1]. Examples of the same confidence go to bins in the order given.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import adaptive_calibration_error
        >>> log_probs = jnp.log(jnp.array([[1.0, 0.0], [0.75, 0.25]]))
        >>> print(adaptive_calibration_error(log_probs, jnp.array([0, 1]), num_bins=2))
        0.375

    References:
        Nguyen and O'Connor, `Posterior calibration and exploratory analysis for natural language
        processing models <https://arxiv.org/abs/1508.05154>`_, 2015; Nixon et al., `Measuring
        Calibration in Deep Learning <https://arxiv.org/abs/1904.01685>`_, 2019, here for the class
        predicted.
    """
    num_bins = _checks.positive_int("num_bins", num_bins)
    confidence, correct = _confidence_and_correctness(log_probs, labels)
    order = jnp.argsort(confidence)
    # Known while tracing, and in NumPy's int64, where this product cannot overflow.
    bins = np.arange(confidence.size) * num_bins // confidence.size
    return _weighted_gap(_bin(jnp.asarray(bins), confidence[order], correct[order], num_bins))


def reliability_bins(
    log_probs: ArrayLike, labels: ArrayLike, num_bins: int = 15
) -> ReliabilityBins:
    """Sorts examples by confidence into bins of equal width, for a reliability diagram.

    Bin i holds the confidences, the probabilities of the class predicted, in (i/B, (i+1)/B].

    Returns:
        Counts, mean confidence and accuracy, `[num_bins]` each.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import reliability_bins
        >>> log_probs = jnp.log(jnp.array([[0.75, 0.25], [0.75, 0.25]]))
        >>> bins = reliability_bins(log_probs, jnp.array([0, 1]), num_bins=2)
        >>> print(bins.counts, bins.confidence, bins.accuracy)
        [0. 2.] [0.   0.75] [0.  0.5]

    References:
        Guo et al. 2017, section 2.
    """
    num_bins = _checks.positive_int("num_bins", num_bins)
    confidence, correct = _confidence_and_correctness(log_probs, labels)
    bins = jnp.ceil(confidence * num_bins).astype(jnp.int32) - 1
    return _bin(jnp.clip(bins, 0, num_bins - 1), confidence, correct, num_bins)


def _confidence_and_correctness(
    log_probs: ArrayLike, labels: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    log_probs, is_target = examples(log_probs, labels)
    confidence = jnp.exp(jnp.max(log_probs, axis=-1))
    return confidence.ravel(), is_correct(log_probs, is_target).ravel()


def _bin(
    bins: jax.Array, confidence: jax.Array, correct: jax.Array, num_bins: int
) -> ReliabilityBins:
    is_here = bins[None] == jnp.arange(num_bins, dtype=bins.dtype)[:, None]
    counts = jnp.sum(is_here, axis=-1)
    sizes = jnp.maximum(counts, 1).astype(confidence.dtype)
    # Sums, and not jax.ops.segment_sum: that adds one number after the other, and float32 rounds
    # each time.
    confidence, accuracy = (
        jnp.sum(jnp.where(is_here, values[None], 0.0), axis=-1) / sizes
        for values in (confidence, correct)
    )
    return ReliabilityBins(counts.astype(confidence.dtype), confidence, accuracy)


def _weighted_gap(bins: ReliabilityBins) -> jax.Array:
    gaps = jnp.abs(bins.accuracy - bins.confidence)
    return jnp.sum(bins.counts * gaps) / jnp.sum(bins.counts)
