r"""DropMax's loss, its terms and its gradient in one pass.

`dropmax_loss_and_terms` calls this. `dropmax_loss_terms` has the same terms one by one, for a mask
that is given, and the tests compare the two.

Differentiated term by term, the loss reads and writes some twenty arrays of the size of the logits.
The derivatives here are taken by hand, and the backward pass keeps one array for each head.
"""

import functools
import math
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from dropmax_jax import _checks, _elements, _noise, _sharding
from dropmax_jax._classes import Classes
from dropmax_jax._loss_terms import loss_terms
from dropmax_jax.concrete import log_sigmoid

# Elements for which the CPU needs no program of its own.
SMALL = 2**11

# The loss `[...]`, and its terms `[...]` in the order of `LossTerms`.
_LossAndTerms = tuple[Array, tuple[Array, ...]]


@functools.partial(jax.jit, static_argnames=("epsilon", "classes", "with_terms"))
def fused_loss(
    key: Array,
    heads: tuple[Array, Array, Array],
    labels: Array,
    temperature: Array,
    weights: Array,
    count: Array | None = None,
    *,
    epsilon: float,
    classes: Classes,
    with_terms: bool,
) -> _LossAndTerms:
    """The loss and its terms, of heads `[..., K]` and weights `[4]` of one dtype, all checked.

    `count` is how many classes each example has, `[...]` of that dtype; None for all. Without the
    terms, the loss takes less time.
    """
    rest = heads if count is None else (*heads, count)
    return _loss(epsilon, classes, with_terms, key, labels, temperature, weights, *rest)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _loss(epsilon: float, classes: Classes, with_terms: bool, *args: Array) -> _LossAndTerms:
    result = _with_gradient(epsilon, classes, with_terms, *args)
    return result.loss, result.terms if with_terms else ()


def _loss_jvp(
    epsilon: float,
    classes: Classes,
    with_terms: bool,
    primals: tuple[Array, ...],
    tangents: tuple[Any, ...],
) -> tuple[_LossAndTerms, _LossAndTerms]:
    key, labels, temperature, weights, *rest = primals
    _, of_labels, of_temperature, of_weights, *of_rest = tangents
    heads, of_heads = rest[:3], of_rest[:3]
    count = rest[3] if len(rest) > 3 else None
    result = _with_gradient(epsilon, classes, with_terms, *primals)
    tangent = jnp.zeros_like(result.loss)
    if not isinstance(of_temperature, SymbolicZero):
        tangent += result.of_temperature * of_temperature
    for slope, of_head in zip(result.of_heads, of_heads, strict=True):
        if not isinstance(of_head, SymbolicZero):
            tangent += classes.sum(slope * of_head)
    if not isinstance(of_weights, SymbolicZero):
        tangent += sum(term * of_weights[i] for i, term in enumerate(result.terms))

    def terms(labels: Array, temperature: Array, *heads: Array) -> tuple[Array, ...]:
        logits, prior, label = heads
        posterior = lax.stop_gradient(prior) + label
        noise = _noise_of(classes, key, posterior)
        log_mask = log_sigmoid((posterior + noise) / temperature)
        target = classes.target(labels, logits)
        return loss_terms(
            classes, target, log_mask, logits, prior, label, _checks.log_epsilon(epsilon), count
        )

    if not isinstance(of_labels, SymbolicZero):
        _, changes = jax.jvp(
            lambda labels: terms(labels, temperature, *heads), (labels,), (of_labels,)
        )
        tangent += sum(weights[i] * change for i, change in enumerate(changes))
    if not with_terms:
        return (result.loss, ()), (tangent, ())
    # XLA leaves the rest out where nobody differentiates the terms.
    points, directions = (labels, temperature, *heads), (of_labels, of_temperature, *of_heads)
    of_what: Any = terms
    if not jnp.issubdtype(labels.dtype, jnp.floating):
        of_what = functools.partial(terms, labels)
        points, directions = points[1:], directions[1:]
    directions = tuple(
        jnp.zeros_like(point) if isinstance(direction, SymbolicZero) else direction
        for point, direction in zip(points, directions, strict=True)
    )
    _, of_terms = jax.jvp(of_what, points, directions)
    return (result.loss, result.terms), (tangent, of_terms)


_loss.defjvp(_loss_jvp, symbolic_zeros=True)


class _Result(NamedTuple):
    """The loss and its terms, `[...]` each, and the loss's derivatives."""

    loss: Array
    terms: tuple[Array, ...]
    of_temperature: Array
    of_heads: tuple[Array, ...]


def _with_gradient(epsilon: float, classes: Classes, with_terms: bool, *args: Array) -> _Result:
    logits = args[4]
    anywhere = functools.partial(_loss_and_gradient, epsilon, classes, with_terms)
    is_spread = classes.axis_name is not None or _sharding.explicit(logits) is not None
    if is_spread or _is_small(logits.shape):
        return anywhere(*args)
    cpu_classes = classes._replace(on_cpu=True)
    on_cpu = functools.partial(_loss_and_gradient, epsilon, cpu_classes, with_terms)
    result: _Result = lax.platform_dependent(*args, cpu=on_cpu, default=anywhere)
    return result


def _loss_and_gradient(
    epsilon: float,
    classes: Classes,
    with_terms: bool,
    key: Array,
    labels: Array,
    temperature: Array,
    weights: Array,
    logits: Array,
    b: Array,
    c: Array,
    count: Array | None = None,
) -> _Result:
    """The logits of ρ and r are called b and c, as in `_elements`."""
    target = classes.target(labels, logits)
    noise = _noise_of(classes, key, b)
    x = _elements.mask_logits(target, lax.stop_gradient(b) + c, noise, temperature)
    x = classes.apart(x)
    mask = _elements.mask(x, epsilon)
    # Before the bound, which the reduction would otherwise read from memory.
    largest = jnp.maximum(classes.max(logits + mask.scale), _checks.NO_CLASS)
    logits = _checks.bounded_below(logits)
    masked = jnp.exp(logits + mask.scale - largest) * (mask.kept + mask.rest)
    masked = classes.apart(masked)
    total = classes.sum(masked)[..., None]
    log_total = largest + jnp.log(total)
    of_logits = masked / total
    mask = _elements.mask(classes.apart(x), epsilon)
    of_x = of_logits * mask.kept / (mask.kept + mask.rest) * mask.not_z
    if target.dtype == jnp.bool_:
        cross_entropy = log_total[..., 0] - classes.sum(jnp.where(target, logits, 0.0))
        cross_entropy -= math.log1p(epsilon)
        of_logits -= target.astype(b.dtype)
    else:
        soft = _elements.soft_cross_entropy(target, logits, x, mask.z, log_total)
        cross_entropy = classes.sum(soft.value) - math.log1p(epsilon) * classes.sum(target)
        slope = classes.sum(soft.of_log_total)[..., None]
        of_logits = of_logits * slope + soft.of_logits
        of_x = of_x * slope + soft.of_x

    balance = classes.regression_weights(b.shape[-1], count) if classes.balanced else None
    regularisers = functools.partial(
        _elements.regularisers, target, weights=balance, keep_logs=not classes.on_cpu
    )
    parts = regularisers(b, c)
    terms = (cross_entropy, *map(classes.sum, parts[:3]))
    loss = jnp.asarray(sum(weights[i] * term for i, term in enumerate(terms)))
    if classes.on_cpu and not with_terms:
        # Each sum is a kernel there: one suffices.
        weighted = functools.reduce(operator.add, (weights[i + 1] * parts[i] for i in range(3)))
        loss = weights[0] * cross_entropy + classes.sum(weighted)
    of_b = regularisers(*classes.apart((b, c)))
    of_c = regularisers(*classes.apart(classes.apart((b, c))))
    return _Result(
        loss,
        terms,
        -weights[0] * classes.sum(of_x * x) / temperature,
        (
            weights[0] * of_logits,
            weights[1] * of_b.kl_of_b + weights[3] * of_b.negative_entropy_of_b,
            weights[0] * of_x / temperature
            + weights[1] * of_c.kl_of_c
            + weights[2] * of_c.regression_of_c,
        ),
    )


def _noise_of(classes: Classes, key: Array, head: Array) -> Array:
    """Noise of the shape of a head, drawn where the head is."""
    sharding = _sharding.explicit(head)
    is_in_place = classes.on_cpu or classes.axis_name is not None or _is_small(head.shape)
    if sharding is not None or not is_in_place:
        return _noise.logistic(key, head.shape, head.dtype, sharding)
    rows = (math.prod(head.shape[:-1]), head.shape[-1])
    share = (classes.share(), classes.num_shares())
    return _noise.logistic_in_place(key, rows, head.dtype, *share).reshape(head.shape)


def _is_small(shape: tuple[int, ...]) -> bool:
    return all(isinstance(size, int) for size in shape) and math.prod(shape) <= SMALL
