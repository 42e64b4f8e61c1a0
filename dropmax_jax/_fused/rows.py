"""The loss of any rows with its derivatives, for noise that is given."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from dropmax_jax import _checks, _elements
from dropmax_jax._classes import Classes


class Result(NamedTuple):
    """The loss and its terms, `[...]` each, and the loss's derivatives."""

    loss: Array
    terms: tuple[Array, ...]
    of_temperature: Array
    of_heads: tuple[Array, ...]


def loss_and_gradient(
    epsilon: float,
    classes: Classes,
    temperature: Array,
    weights: Array,
    noise: Array,
    labels: Array,
    logits: Array,
    b: Array,
    c: Array,
    count: Array | None = None,
) -> Result:
    """The loss for heads and noise `[..., K]`, and labels: integers `[...]` or probabilities.

    The logits of ρ and r are called b and c, as in `_elements`. `count` is how many classes each
    example has, `[...]`; None for all.
    """
    target = classes.target(labels, logits)
    logits = _checks.bounded_below(logits)
    x = _elements.mask_logits(target, lax.stop_gradient(b) + c, noise, temperature)
    mask = _elements.mask(x, epsilon)
    scaled = logits + mask.scale
    largest = classes.max(scaled)
    weight = jnp.exp(scaled - largest)
    total = classes.sum(weight * (mask.kept + mask.rest))[..., None]
    log_total = largest + jnp.log(total)
    if target.dtype == jnp.bool_:
        cross_entropy = log_total[..., 0] - classes.sum(jnp.where(target, logits, 0.0))
        cross_entropy -= math.log1p(epsilon)
        of_logits = weight * (mask.kept + mask.rest) / total - target.astype(b.dtype)
        of_x = weight * mask.kept * mask.not_z / total
    else:
        soft = _elements.soft_cross_entropy(target, logits, x, mask.z, log_total)
        cross_entropy = classes.sum(soft.value) - math.log1p(epsilon) * classes.sum(target)
        slope = classes.sum(soft.of_log_total)[..., None]
        of_logits = weight * (mask.kept + mask.rest) / total * slope + soft.of_logits
        of_x = mask.not_z * (weight * mask.kept / total) * slope + soft.of_x

    balance = classes.regression_weights(b.shape[-1], count)
    parts = _elements.regularisers(target, b, c, balance if classes.balanced else None)
    terms = (cross_entropy, *map(classes.sum, parts[:3]))
    loss = jnp.asarray(sum(weights[i] * term for i, term in enumerate(terms)))
    return Result(
        loss,
        terms,
        -weights[0] * classes.sum(of_x * x) / temperature,
        (
            weights[0] * of_logits,
            weights[1] * parts.kl_of_b + weights[3] * parts.negative_entropy_of_b,
            weights[0] * of_x / temperature
            + weights[1] * parts.kl_of_c
            + weights[2] * parts.regression_of_c,
        ),
    )
