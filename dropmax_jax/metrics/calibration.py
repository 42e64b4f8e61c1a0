"""How well confidence agrees with accuracy."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dropmax_jax import _checks
from dropmax_jax._sharding import together
from dropmax_jax.metrics._examples import is_correct, predictions, sort_kept_first


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

    @property
    def calibration_error(self) -> jax.Array:
        """The gap between accuracy and confidence, averaged over examples; NaN without any.

        It is what `expected_calibration_error` returns for the examples in the bins.
        """
        gaps = jnp.abs(self.accuracy - self.confidence)
        return jnp.sum(self.counts * gaps, axis=-1) / jnp.sum(self.counts, axis=-1)

    def merge(self, other: "ReliabilityBins") -> "ReliabilityBins":
        """The bins of both sets of examples: counts add up, and means are weighted by them.

        Merge the bins of batches, or those that each process has of its own examples, to measure
        all examples together. Except for rounding, the order does not matter.

        Raises:
            TypeError: `other` is not a `ReliabilityBins`.
            ValueError: The numbers of bins differ.

        Example:
            >>> import functools
            >>> import jax.numpy as jnp
            >>> from dropmax_jax.metrics import ReliabilityBins, reliability_bins
            >>> log_probs = jnp.log(jnp.array([[[0.75, 0.25]], [[0.75, 0.25]]]))
            >>> labels = jnp.array([[0], [1]])
            >>> batches = [reliability_bins(log_probs[i], labels[i]) for i in range(2)]
            >>> print(functools.reduce(ReliabilityBins.merge, batches).calibration_error)
            0.25
        """
        if not isinstance(other, ReliabilityBins):
            raise TypeError(f"other must be a ReliabilityBins, but is a {type(other).__name__}")
        arrays = _checks.promote(*map(jnp.asarray, (*self, *other)))
        mine, its = ReliabilityBins(*arrays[:3]), ReliabilityBins(*arrays[3:])
        _checks.same_shape("other.counts", its.counts, mine.counts.shape, "self.counts")
        counts = mine.counts + its.counts
        # Divided first, which does not round the means of one where the other has no examples.
        share, its_share = (bins.counts / jnp.maximum(counts, 1.0) for bins in (mine, its))
        return ReliabilityBins(
            counts,
            share * mine.confidence + its_share * its.confidence,
            share * mine.accuracy + its_share * its.accuracy,
        )


def expected_calibration_error(
    log_probs: ArrayLike, labels: ArrayLike, num_bins: int = 15, *, where: ArrayLike | None = None
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
    return reliability_bins(log_probs, labels, num_bins, where=where).calibration_error


def adaptive_calibration_error(
    log_probs: ArrayLike, labels: ArrayLike, num_bins: int = 15, *, where: ArrayLike | None = None
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
    confidence, correct, where = _confidence_and_correctness(log_probs, labels, where)
    # A sort needs all examples on one device.
    confidence, correct = together(confidence), together(correct)
    where = None if where is None else together(where)
    order = sort_kept_first(confidence, where)
    confidence, correct = confidence[order], correct[order]
    if where is None:
        # Known while tracing, and in NumPy's int64, where this product cannot overflow.
        bins = np.arange(confidence.size) * num_bins // confidence.size
        is_inside = _is_bin(jnp.asarray(bins), num_bins)
    else:
        edges = _equal_mass_edges(jnp.sum(where), num_bins)
        ranks = jnp.arange(confidence.size, dtype=edges.dtype)[None]
        is_inside = (ranks >= edges[:-1, None]) & (ranks < edges[1:, None])
    return _means(is_inside, confidence, correct).calibration_error


def reliability_bins(
    log_probs: ArrayLike, labels: ArrayLike, num_bins: int = 15, *, where: ArrayLike | None = None
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
    confidence, correct, where = _confidence_and_correctness(log_probs, labels, where)
    bins = jnp.ceil(confidence * num_bins).astype(jnp.int32) - 1
    is_inside = _is_bin(jnp.clip(bins, 0, num_bins - 1), num_bins)
    if where is not None:
        is_inside = is_inside & where[None]
    return _means(is_inside, confidence, correct)


def _confidence_and_correctness(
    log_probs: ArrayLike, labels: ArrayLike, where: ArrayLike | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    log_probs, is_target, mask = predictions(log_probs, labels, where)
    confidence = jnp.exp(jnp.max(log_probs, axis=-1))
    correct = is_correct(log_probs, is_target)
    return confidence.ravel(), correct.ravel(), None if mask is None else mask.ravel()


def _equal_mass_edges(count: jax.Array, num_bins: int) -> jax.Array:
    """The rank at which each of B bins of `count` examples begins, and `count`, `[B + 1]`.

    They are ceil(i N / B) = i q + ceil(i r / B), for N = q B + r.
    """
    places = np.arange(num_bins + 1)
    remainder = count % num_bins
    # i r / B by the binary digits of i, since an int32 cannot hold i r.
    whole = rest = jnp.zeros(places.shape, count.dtype)
    for digit in reversed(range(num_bins.bit_length())):
        rest = 2 * rest + jnp.asarray(places >> digit & 1, count.dtype) * remainder
        whole, rest = 2 * whole + rest // num_bins, rest % num_bins
    ceiling = whole + (rest > 0).astype(count.dtype)
    return jnp.asarray(places, count.dtype) * (count // num_bins) + ceiling


def _is_bin(bins: jax.Array, num_bins: int) -> jax.Array:
    """Which examples `[N]` are in which bin, booleans `[num_bins, N]`."""
    return bins[None] == jnp.arange(num_bins, dtype=bins.dtype)[:, None]


def _means(is_inside: jax.Array, confidence: jax.Array, correct: jax.Array) -> ReliabilityBins:
    counts = jnp.sum(is_inside, axis=-1)
    sizes = jnp.maximum(counts, 1).astype(confidence.dtype)
    # Sums, and not jax.ops.segment_sum: that adds one number after the other, and float32 rounds
    # each time.
    confidence, accuracy = (
        jnp.sum(jnp.where(is_inside, values[None], 0.0), axis=-1) / sizes
        for values in (confidence, correct)
    )
    return ReliabilityBins(counts.astype(confidence.dtype), confidence, accuracy)
