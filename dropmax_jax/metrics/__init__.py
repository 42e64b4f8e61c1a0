"""How good, and how well calibrated, predicted probabilities are.

The functions here share these arguments:

- `log_probs`: log-probabilities `[..., K]`, classes last, floating point or minus infinity.
- `labels`: the class of each example, integers `[...]`. A label out of range counts as an error,
  and makes `nll` and `brier` undefined.
- `sampled_log_probs`: log-probabilities `[S, ..., K]` of S samples.
- `num_bins`: a Python integer of at least 1.
- `where`: which examples count, booleans of the examples' shape `[...]` or one that broadcasts to
  it; all by default. The others change nothing, whatever they hold (NaN, a label of -1), and
  gradients with respect to them are 0. Where no example counts, means are NaN.

Every leading axis counts examples; use `jax.vmap` for a value per model. Entropies and likelihoods
are in nats. Results are float64 if an array is, else float32. While tracing, a function raises
`ValueError` for shapes that do not fit, for no example or no class and for a number out of range,
and `TypeError` for a value of the wrong kind. It also raises `ValueError` for log-probabilities
above 0, such as logits, if it knows their values: under `jax.jit` it does not. `error_rate` accepts
logits, or anything else that increases with the probability.

Example:
    >>> import jax.numpy as jnp
    >>> from dropmax_jax.metrics import error_rate
    >>> log_probs = jnp.log(jnp.array([[0.9, 0.1], [0.4, 0.6], [jnp.nan, jnp.nan]]))
    >>> labels = jnp.array([0, 0, -1])  # the last row fills up the batch
    >>> print(error_rate(log_probs, labels, where=labels >= 0))
    0.5
"""

from dropmax_jax.metrics.calibration import (
    ReliabilityBins,
    adaptive_calibration_error,
    expected_calibration_error,
    reliability_bins,
)
from dropmax_jax.metrics.detection import area_under_risk_coverage, auroc, risk_coverage
from dropmax_jax.metrics.scores import brier, error_rate, nll
from dropmax_jax.metrics.uncertainty import (
    mean_log_probs,
    mutual_information,
    predictive_entropy,
)

__all__ = [
    "ReliabilityBins",
    "adaptive_calibration_error",
    "area_under_risk_coverage",
    "auroc",
    "brier",
    "error_rate",
    "expected_calibration_error",
    "mean_log_probs",
    "mutual_information",
    "nll",
    "predictive_entropy",
    "reliability_bins",
    "risk_coverage",
]
