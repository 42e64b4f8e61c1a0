"""The methods of the paper's table, and some beyond it, by name: one file each.

A new method is a new file that makes a `Method`, and a line in the table below.
"""

from dropmax_jax.methods.class_dropout import class_dropout
from dropmax_jax.methods.deterministic_attention import deterministic_attention
from dropmax_jax.methods.dropmax import dropmax
from dropmax_jax.methods.dropmax_logit import dropmax_logit
from dropmax_jax.methods.dropmax_prior import dropmax_prior
from dropmax_jax.methods.mc_dropout import mc_dropout
from dropmax_jax.methods.method import Method
from dropmax_jax.methods.random_dropmax_logit import random_dropmax_logit
from dropmax_jax.methods.sampled_softmax import sampled_softmax
from dropmax_jax.methods.softmax import softmax
from dropmax_jax.methods.sparsemax import sparsemax
from dropmax_jax.methods.temperature_scaling import temperature_scaling

METHODS: dict[str, Method] = {
    "softmax": softmax,
    "sparsemax": sparsemax,
    "sampled_softmax": sampled_softmax,
    "class_dropout": class_dropout,
    "deterministic_attention": deterministic_attention,
    "dropmax_prior": dropmax_prior,
    "dropmax": dropmax,
    "random_dropmax_logit": random_dropmax_logit,
    "dropmax_logit": dropmax_logit,
    "temperature_scaling": temperature_scaling,
    "mc_dropout": mc_dropout,
}

__all__ = ["METHODS", "Method"]
