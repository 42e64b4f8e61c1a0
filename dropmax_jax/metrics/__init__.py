"""How good, and how well calibrated, predicted probabilities are.

The functions here share these arguments:

- `log_probs`: log-probabilities `[..., K]`, classes last, floating point or minus infinity.
- `labels`: the class of each example, integers `[...]`. A label out of range counts as an error,
  and makes `nll` and `brier` undefined.
- `sampled_log_probs`: log-probabilities `[S, ..., K]` of S samples.
- `num_bins`: a Python integer of at least 1.

Every leading axis counts examples; use `jax.vmap` for a value per model. Entropies and likelihoods
are in nats. Results are float64 if an array is, else float32. While tracing, a function raises
`ValueError` for shapes that do not fit, for no example or no class and for a number out of range,
and `TypeError` for a value of the wrong kind.
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
