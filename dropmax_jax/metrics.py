"""How good, and how well calibrated, predicted probabilities are.

Predictions are log-probabilities `[..., K]`, classes last; labels are integers `[...]`, and every
leading axis counts examples. Use `jax.vmap` for a value per model.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dropmax_jax import _checks


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


def error_rate(log_probs: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Fraction of the examples whose most probable class is not the label.

    Args:
        log_probs: Log-probabilities, or any increasing function of them, `[..., K]`.
        labels: Class of each example, integers `[...]`; one out of range counts as an error.

    Returns:
        A scalar in [0, 1]. Of equally probable classes the first is the prediction.

    Raises:
        ValueError: The shapes do not fit, or there is no example or class.
        TypeError: `log_probs` is not floating point, or labels are not integers.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import error_rate
        >>> log_probs = jnp.log(jnp.array([[0.9, 0.1], [0.4, 0.6]]))
        >>> print(error_rate(log_probs, jnp.array([0, 0])))
        0.5
    """
    log_probs, is_target = _examples(log_probs, labels)
    return jnp.mean(1.0 - _is_correct(log_probs, is_target))


def nll(log_probs: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Mean negative log-likelihood of the labels, in nats.

    Args:
        log_probs: Log-probabilities `[..., K]`.
        labels: Class of each example, integers `[...]` in [0, K); undefined result otherwise.

    Returns:
        A scalar of at least 0.

    Raises:
        ValueError: The shapes do not fit, or there is no example or class.
        TypeError: `log_probs` is not floating point, or labels are not integers.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import nll
        >>> print(f"{nll(jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([0])):.4f}")
        0.6931
    """
    log_probs, is_target = _examples(log_probs, labels)
    return -jnp.mean(jnp.sum(jnp.where(is_target, log_probs, 0.0), axis=-1))


def brier(log_probs: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Brier score: squared distance of the probabilities and the one-hot label.

    Args:
        log_probs: Log-probabilities `[..., K]`.
        labels: Class of each example, integers `[...]` in [0, K); undefined result otherwise.

    Returns:
        A scalar in [0, 2]: the sum over classes, its mean over examples.

    Raises:
        ValueError: The shapes do not fit, or there is no example or class.
        TypeError: `log_probs` is not floating point, or labels are not integers.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import brier
        >>> print(brier(jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([0])))
        0.5

    References:
        Brier, Verification of Forecasts Expressed in Terms of Probability, 1950.
    """
    log_probs, is_target = _examples(log_probs, labels)
    one_hot = is_target.astype(log_probs.dtype)
    return jnp.mean(jnp.sum(jnp.square(jnp.exp(log_probs) - one_hot), axis=-1))


def expected_calibration_error(
    log_probs: ArrayLike, labels: ArrayLike, num_bins: int = 15
) -> jax.Array:
    """Expected calibration error (ECE), in bins of equal width.

    The gap between accuracy and mean confidence in each of `reliability_bins`, averaged over bins
    by the number of examples in them.

    Args:
        log_probs: Log-probabilities `[..., K]`.
        labels: Class of each example, integers `[...]`; one out of range counts as an error.
        num_bins: Number of bins, a Python integer of at least 1.

    Returns:
        A scalar in [0, 1].

    Raises:
        ValueError: The shapes do not fit, there is no example or class, or `num_bins` is below 1.
        TypeError: `log_probs` is not floating point, or labels or `num_bins` not integers.

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

    Args:
        log_probs: Log-probabilities `[..., K]`.
        labels: Class of each example, integers `[...]`; one out of range counts as an error.
        num_bins: Number of bins, a Python integer of at least 1.

    Returns:
        A scalar in [0, 1]. Examples of the same confidence go to bins in the order given.

    Raises:
        ValueError: The shapes do not fit, there is no example or class, or `num_bins` is below 1.
        TypeError: `log_probs` is not floating point, or labels or `num_bins` not integers.

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
    """Sort examples by confidence into bins of equal width, for a reliability diagram.

    Bin i holds the confidences, the probabilities of the class predicted, in (i/B, (i+1)/B].

    Args:
        log_probs: Log-probabilities `[..., K]`.
        labels: Class of each example, integers `[...]`; one out of range counts as an error.
        num_bins: B, the number of bins, a Python integer of at least 1.

    Returns:
        Counts, mean confidence and accuracy, `[num_bins]` each.

    Raises:
        ValueError: The shapes do not fit, there is no example or class, or `num_bins` is below 1.
        TypeError: `log_probs` is not floating point, or labels or `num_bins` not integers.

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


def predictive_entropy(log_probs: ArrayLike) -> jax.Array:
    """Entropy of the predicted distribution of each example, in nats.

    Args:
        log_probs: Log-probabilities `[..., K]`, minus infinity allowed.

    Returns:
        The entropy `[...]`, from 0 to log K.

    Raises:
        ValueError: `log_probs` is a scalar, or there is no class.
        TypeError: `log_probs` is not floating point.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import predictive_entropy
        >>> print(predictive_entropy(jnp.log(jnp.array([[0.5, 0.5], [1.0, 0.0]]))).round(4))
        [0.6931 0.    ]
    """
    (log_probs,) = _checks.promote(_checks.class_array("log_probs", log_probs))
    probs = jnp.exp(log_probs)
    return jnp.abs(jnp.sum(probs * jnp.where(probs > 0.0, log_probs, 0.0), axis=-1))


def mean_log_probs(sampled_log_probs: ArrayLike) -> jax.Array:
    r"""Log of the mean of probabilities over samples.

    .. math::
        \log p(y \mid x) \approx \log \frac{1}{S} \sum_{s=1}^{S} p(y \mid x, \omega_s)

    Args:
        sampled_log_probs: Log-probabilities `[S, ..., K]`, a sample each along the first axis.

    Returns:
        Log-probabilities `[..., K]`, in nats; float64 if the argument is, else float32.

    Raises:
        ValueError: There are fewer than two axes, or no sample or class.
        TypeError: `sampled_log_probs` is not floating point.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import mean_log_probs
        >>> samples = jnp.log(jnp.array([[0.9, 0.1], [0.5, 0.5]]))
        >>> print(mean_log_probs(samples).round(4))  # log 0.7 and log 0.3
        [-0.3567 -1.204 ]

    References:
        Gal and Ghahramani, `Dropout as a Bayesian Approximation: Representing Model Uncertainty in
        Deep Learning <https://arxiv.org/abs/1506.02142>`_, ICML 2016, section 4.
    """
    (array,) = _checks.promote(_checks.class_array("sampled_log_probs", sampled_log_probs))
    if array.ndim < 2 or array.shape[0] == 0:
        raise ValueError(
            "sampled_log_probs must have shape [S, ..., K] with at least one sample, "
            f"but has shape {array.shape}"
        )
    return jax.nn.logsumexp(array, axis=0) - math.log(array.shape[0])


def mutual_information(sampled_log_probs: ArrayLike) -> jax.Array:
    """How much sampled predictions of one example disagree, in nats (BALD).

    The mutual information of the class and what was sampled: the entropy of the mean prediction
    less the mean entropy of the predictions.

    Args:
        sampled_log_probs: Log-probabilities `[S, ..., K]` of S samples.

    Returns:
        The mutual information `[...]`, from 0 to log min(S, K).

    Raises:
        ValueError: There are fewer than two axes, or no sample or class.
        TypeError: `sampled_log_probs` is not floating point.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import mutual_information
        >>> sure_but_contrary = jnp.log(jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
        >>> print(mutual_information(sure_but_contrary).round(4))
        [0.6931]

    References:
        Houlsby et al., `Bayesian Active Learning for Classification and Preference Learning
        <https://arxiv.org/abs/1112.5745>`_, 2011, equation 2.
    """
    mean = mean_log_probs(sampled_log_probs)
    mean_entropy = jnp.mean(predictive_entropy(sampled_log_probs), axis=0)
    information = predictive_entropy(mean) - mean_entropy
    # Negative only by rounding.
    return jnp.maximum(information, 0.0)


def auroc(scores: ArrayLike, is_positive: ArrayLike) -> jax.Array:
    """Area under the ROC curve: how well a score tells positives from negatives.

    The probability that the score of a random positive exceeds that of a random negative, where a
    tie counts half: 1 for a perfect detector, 0.5 for one that knows nothing. Score errors or
    unfamiliar inputs by `predictive_entropy` or `mutual_information`.

    Args:
        scores: Higher for what is more likely positive, floating point `[...]`, not NaN.
        is_positive: Which examples are positive, booleans `[...]`.

    Returns:
        A scalar in [0, 1]; NaN if there are no positives or no negatives.

    Raises:
        ValueError: The shapes differ, or there is no example.
        TypeError: `scores` is not floating point, or `is_positive` not boolean.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.metrics import auroc
        >>> print(auroc(jnp.array([0.1, 0.4, 0.4, 0.8]), jnp.array([False, False, True, True])))
        0.875

    References:
        Hanley and McNeil, The Meaning and Use of the Area under a Receiver Operating
        Characteristic (ROC) Curve, 1982.
    """
    scores, is_positive = _scores_and_flags("scores", scores, "is_positive", is_positive)
    order = jnp.argsort(scores)
    is_negative = ~is_positive
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


def risk_coverage(uncertainties: ArrayLike, is_error: ArrayLike) -> jax.Array:
    """Risk–coverage curve: the error rate where only the surest predictions are made.

    Args:
        uncertainties: Lower for what is surer, floating point `[...]` of N examples, not NaN.
        is_error: Which predictions are wrong, booleans `[...]`.

    Returns:
        `[N]`: the error rate among the n surest examples, for n from 1 to N. Equally sure ones
        come in every order with equal probability, and the rate is its expectation.

    Raises:
        ValueError: The shapes differ, or there is no example.
        TypeError: `uncertainties` is not floating point, or `is_error` not boolean.

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
    scores, is_error = _scores_and_flags("uncertainties", uncertainties, "is_error", is_error)
    order = jnp.argsort(scores)
    ordered = scores[order]
    # Compared, not subtracted: the difference of two tiny scores is 0 on some devices.
    is_new = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] > ordered[:-1]])
    ties = jnp.cumsum(is_new)
    errors = is_error[order].astype(jnp.int32)
    sums, counts = (
        jax.ops.segment_sum(values, ties, num_segments=scores.size)
        for values in (errors, jnp.ones_like(errors))
    )
    rates = sums.astype(scores.dtype) / jnp.maximum(counts, 1).astype(scores.dtype)
    return jnp.cumsum(rates[ties]) / jnp.arange(1, scores.size + 1, dtype=scores.dtype)


def area_under_risk_coverage(uncertainties: ArrayLike, is_error: ArrayLike) -> jax.Array:
    """Area under the curve of `risk_coverage` (AURC): its mean over all coverages.

    Args:
        uncertainties: Lower for what is surer, floating point `[...]`, not NaN.
        is_error: Which predictions are wrong, booleans `[...]`.

    Returns:
        A scalar in [0, 1]: low where errors are few and the model knows which they are.

    Raises:
        ValueError: The shapes differ, or there is no example.
        TypeError: `uncertainties` is not floating point, or `is_error` not boolean.

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
    return jnp.mean(risk_coverage(uncertainties, is_error))


def _scores_and_flags(
    scores_name: str, scores: ArrayLike, flags_name: str, flags: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    (array,) = _checks.promote(_checks.float_array(scores_name, scores))
    booleans = _checks.bool_array(flags_name, flags)
    _checks.same_shape(flags_name, booleans, array.shape, scores_name)
    if array.size == 0:
        raise ValueError(f"{scores_name} must have an example, but has shape {array.shape}")
    return array.ravel(), booleans.ravel()


def _examples(log_probs: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    (array,) = _checks.promote(_checks.class_array("log_probs", log_probs))
    is_target = _checks.target_mask(labels, array.shape, "log_probs")
    if array.size == 0:
        raise ValueError(f"log_probs must have at least one example, but has shape {array.shape}")
    return array, is_target


def _is_correct(log_probs: jax.Array, is_target: jax.Array) -> jax.Array:
    prediction = jnp.argmax(log_probs, axis=-1)[..., None]
    picked = jnp.take_along_axis(is_target, prediction, axis=-1)
    return picked[..., 0].astype(log_probs.dtype)


def _confidence_and_correctness(
    log_probs: ArrayLike, labels: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    log_probs, is_target = _examples(log_probs, labels)
    confidence = jnp.exp(jnp.max(log_probs, axis=-1))
    return confidence.ravel(), _is_correct(log_probs, is_target).ravel()


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
