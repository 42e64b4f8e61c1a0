"""DropMax, the adaptive variational softmax, for JAX."""

from jax import export

from dropmax_jax import metrics
from dropmax_jax._loss_terms import LossTerms
from dropmax_jax.balanced import dropmax_balanced_loss, dropmax_balanced_loss_and_terms
from dropmax_jax.concrete import (
    bernoulli_kl,
    bernoulli_negative_entropy,
    concrete_log_mask,
    sample_log_mask,
)
from dropmax_jax.dropmax import (
    dropmax_logits,
    dropmax_loss,
    dropmax_loss_and_terms,
    dropmax_loss_terms,
    elbo,
    posterior_logits,
)
from dropmax_jax.heads import Heads, weight_decay_mask, zero_mask_heads
from dropmax_jax.linear import (
    dropmax_linear_log_probs,
    dropmax_linear_loss,
    dropmax_linear_loss_and_terms,
    dropmax_linear_top_k,
    softmax_linear_loss,
)
from dropmax_jax.methods import METHODS, Method
from dropmax_jax.prediction import (
    Uncertainty,
    dropmax_log_probs,
    dropmax_uncertainty,
    sample_dropmax_log_probs,
)

__all__ = [
    "METHODS",
    "Heads",
    "LossTerms",
    "Method",
    "Uncertainty",
    "bernoulli_kl",
    "bernoulli_negative_entropy",
    "concrete_log_mask",
    "dropmax_balanced_loss",
    "dropmax_balanced_loss_and_terms",
    "dropmax_linear_log_probs",
    "dropmax_linear_loss",
    "dropmax_linear_loss_and_terms",
    "dropmax_linear_top_k",
    "dropmax_log_probs",
    "dropmax_logits",
    "dropmax_loss",
    "dropmax_loss_and_terms",
    "dropmax_loss_terms",
    "dropmax_uncertainty",
    "elbo",
    "metrics",
    "posterior_logits",
    "sample_dropmax_log_probs",
    "sample_log_mask",
    "softmax_linear_loss",
    "weight_decay_mask",
    "zero_mask_heads",
]

__version__ = "0.1.0"

# So that exported functions can take and return them.
for _name, _type in {
    "Heads": Heads,
    "LossTerms": LossTerms,
    "ReliabilityBins": metrics.ReliabilityBins,
    "Uncertainty": Uncertainty,
}.items():
    export.register_namedtuple_serialization(_type, serialized_name=f"dropmax_jax.{_name}")
