"""The methods of the paper's table, and some beyond it, by name: one file each.

CONTRIBUTING says how to add one.
"""

from dropmax_jax.method import Method
from dropmax_jax.methods import (
    class_dropout,
    deterministic_attention,
    dropmax,
    dropmax_balanced,
    dropmax_logit,
    dropmax_marginal,
    dropmax_prior,
    label_smoothing,
    mc_dropout,
    random_dropmax_logit,
    sampled_softmax,
    softmax,
    sparsemax,
    temperature_scaling,
)

METHODS: dict[str, Method] = {
    "softmax": softmax.METHOD,
    "sparsemax": sparsemax.METHOD,
    "sampled_softmax": sampled_softmax.METHOD,
    "class_dropout": class_dropout.METHOD,
    "deterministic_attention": deterministic_attention.METHOD,
    "dropmax_prior": dropmax_prior.METHOD,
    "dropmax": dropmax.METHOD,
    "dropmax_balanced": dropmax_balanced.METHOD,
    "dropmax_marginal": dropmax_marginal.METHOD,
    "random_dropmax_logit": random_dropmax_logit.METHOD,
    "dropmax_logit": dropmax_logit.METHOD,
    "label_smoothing": label_smoothing.METHOD,
    "temperature_scaling": temperature_scaling.METHOD,
    "mc_dropout": mc_dropout.METHOD,
}

__all__ = ["METHODS", "Method"]
