r"""DropMax's loss, its terms and its gradient in one pass; large ones, on CPU, in blocks.

`dropmax_loss_and_terms` calls this. `dropmax_loss_terms` has the same terms one by one, for a mask
that is given, and the tests compare the two.

Differentiated term by term, the loss reads and writes some twenty arrays of the size of the logits.
The derivatives here are taken by hand, and the backward pass keeps one array for each head. The
arrays of a block fit the CPU's caches. The code calls the logits of q, ρ and r a, b and c.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from dropmax_jax import _checks, _noise
from dropmax_jax._loss_terms import loss_terms
from dropmax_jax.concrete import log_sigmoid, sigmoids

# Elements of a block: its temporaries stay in a cache, and starting its kernels costs little.
BLOCK = 2**15
# Elements that are not worth a loop.
SMALL = 2**11
# A logit whose sigmoid is 1 to the last digit, and whose products are finite.
CERTAIN = 1e6
# From the lowest power of s up.
_LOG1P = (
    1.0,
    -0.49999502301216125,
    0.33319270610809326,
    -0.24844369292259216,
    0.19111430644989014,
    -0.13674770295619965,
    0.07836166769266129,
    -0.02958850748836994,
    0.005253457929939032,
)

# The four terms `[...]`, in the order of `LossTerms`, and the loss `[...]`, their weighted sum.
_LossAndTerms = tuple[Array, tuple[Array, ...]]


@functools.partial(jax.jit, static_argnames="epsilon")
def fused_loss(
    key: Array,
    logits: Array,
    prior: Array,
    label: Array,
    labels: Array,
    temperature: Array,
    weights: Array,
    *,
    epsilon: float,
) -> _LossAndTerms:
    """The loss and its terms, of heads `[..., K]` and weights `[4]` of one dtype, all checked."""
    return _loss(epsilon, key, labels, temperature, weights, logits, prior, label)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _loss(epsilon: float, *args: Array) -> _LossAndTerms:
    return _with_gradient(epsilon, *args)[0]


def _loss_jvp(
    epsilon: float, primals: tuple[Array, ...], tangents: tuple[Any, ...]
) -> tuple[_LossAndTerms, _LossAndTerms]:
    key, labels, temperature, _, *heads = primals
    _, _, temperature_tangent, weights_tangent, *head_tangents = tangents
    (loss, terms), (slope, *slopes) = _with_gradient(epsilon, *primals)
    tangent = jnp.zeros_like(loss)
    if not isinstance(temperature_tangent, SymbolicZero):
        tangent += slope * temperature_tangent
    for slope, head_tangent in zip(slopes, head_tangents, strict=True):
        if not isinstance(head_tangent, SymbolicZero):
            tangent += jnp.sum(slope * head_tangent, axis=-1)
    if not isinstance(weights_tangent, SymbolicZero):
        tangent += sum(term * weights_tangent[i] for i, term in enumerate(terms))

    # XLA leaves the rest out where nobody differentiates the terms.
    def plain_terms(temperature: Array, logits: Array, prior: Array, label: Array) -> Any:
        posterior = lax.stop_gradient(prior) + label
        noise = _noise.logistic(key, posterior.shape, posterior.dtype)
        log_mask = log_sigmoid((posterior + noise) / temperature)
        is_target = _checks.target_mask(labels, logits.shape, "logits")
        log_epsilon = _checks.log_epsilon(epsilon)
        return loss_terms(is_target, log_mask, logits, prior, label, log_epsilon)

    changes = [
        jnp.zeros_like(primal) if isinstance(change, SymbolicZero) else change
        for primal, change in zip(
            (temperature, *heads), (temperature_tangent, *head_tangents), strict=True
        )
    ]
    _, of_terms = jax.jvp(plain_terms, (temperature, *heads), tuple(changes))
    return (loss, terms), (tangent, of_terms)


_loss.defjvp(_loss_jvp, symbolic_zeros=True)


def _with_gradient(
    epsilon: float, key: Array, labels: Array, temperature: Array, weights: Array, *heads: Array
) -> tuple[_LossAndTerms, tuple[Array, ...]]:
    """The loss and its terms; the loss's derivatives in temperature, `[...]`, and heads."""
    shape, dtype = heads[0].shape, heads[0].dtype

    def without_loop(key: Array, temperature: Array, weights: Array, *rest: Array) -> Any:
        sources, noise = _noise.logistic_by_row(key, (labels.size, shape[-1]), dtype)
        drawn = noise(sources).reshape(shape)
        return _rows(epsilon, _sum, temperature, weights, drawn, *rest)

    def at_once(key: Array, temperature: Array, weights: Array, *rest: Array) -> Any:
        noise = _noise.logistic(key, shape, dtype)
        return _rows(epsilon, _sum, temperature, weights, noise, *rest)

    def in_blocks(key: Array, temperature: Array, weights: Array, *rest: Array) -> Any:
        flat = [array.reshape(-1, *array.shape[labels.ndim :]) for array in rest]
        sources, noise = _noise.logistic_by_row(key, flat[-1].shape, dtype)
        results = lax.map(
            lambda row: _rows(epsilon, _sum_on_cpu, temperature, weights, noise(row[0]), *row[1:]),
            (sources, *flat),
            batch_size=max(1, BLOCK // shape[-1]),
        )
        return jax.tree.map(lambda array: array.reshape(*labels.shape, *array.shape[1:]), results)

    args = (key, temperature, weights, labels, *heads)
    # Rows known to lie on several devices can't be taken in turn, nor can a number of rows that is
    # a symbol, in a program exported for any batch.
    is_spread = any(any(jax.typeof(array).sharding.spec) for array in (labels, *heads))
    is_symbolic = not all(isinstance(size, int) for size in shape)
    if is_spread or is_symbolic:
        return at_once(*args)
    if math.prod(shape) <= SMALL:
        return without_loop(*args)
    return lax.platform_dependent(*args, cpu=in_blocks, default=at_once)


def _rows(
    epsilon: float,
    sum_classes: Any,
    temperature: Array,
    weights: Array,
    noise: Array,
    labels: Array,
    logits: Array,
    b: Array,
    c: Array,
) -> tuple[_LossAndTerms, tuple[Array, ...]]:
    """`_with_gradient` for noise that is given, of any number of rows, `[..., K]`."""
    # JAX differentiates these lines for second derivatives. So comparisons count 0 as positive, as
    # the derivative of jnp.abs does, and only the b within a is constant.
    is_target = _checks.target_mask(labels, logits.shape, "logits")
    constant_b = lax.stop_gradient(b)
    a = jnp.where(is_target, CERTAIN, constant_b + c)
    a_minus_b = c - (b - constant_b)
    q, not_q = sigmoids(a)
    rho, not_rho = sigmoids(b)
    side = jnp.where(is_target, -c, c)
    wrong, _ = sigmoids(side)  # r, or 1 - r where r should be 1

    # The cross-entropy's weights: z + ε = exp(scale) (mask + rest), where the larger of mask and
    # rest is between 1/2 and 1, so that none is lost however small z and ε are.
    x = jnp.where(is_target, CERTAIN, (a + noise) / temperature)
    larger, smaller = sigmoids(jnp.abs(x))
    not_mask = jnp.where(x >= 0.0, smaller, larger)
    scale = jnp.minimum(x, 0.0)
    mask, rest = larger, jnp.zeros_like(x)
    if epsilon > 0.0:
        gap = scale - _checks.log_epsilon(epsilon)
        ratio = jnp.exp(-jnp.abs(gap))
        mask = jnp.where(gap >= 0.0, larger, ratio * larger)
        rest = jnp.where(gap >= 0.0, ratio, 1.0)
        scale = jnp.maximum(scale, _checks.log_epsilon(epsilon))
    scaled = logits + scale
    largest = lax.stop_gradient(jnp.max(scaled, axis=-1, keepdims=True))
    weight = jnp.exp(scaled - largest)
    total = sum_classes(weight * (mask + rest))[..., None]

    # Large numbers meet only where a probability weighs them down; see `concrete._kl`.
    log_a, log_b, log_side = _log1p_exp_abs(a), _log1p_exp_abs(b), _log1p_exp_abs(side)
    kl = jnp.where(
        is_target,
        log_b + jnp.where(b >= 0.0, 0.0, -b),
        (log_b - log_a)
        + jnp.where(
            a >= 0.0,
            -not_q * a_minus_b + jnp.where(b >= 0.0, 0.0, -b),
            q * a_minus_b + jnp.where(b >= 0.0, b, 0.0),
        ),
    )
    terms = (
        (largest + jnp.log(total))[..., 0]
        - sum_classes(jnp.where(is_target, logits, 0.0))
        - math.log1p(epsilon),
        sum_classes(kl),
        sum_classes(log_side + jnp.where(side >= 0.0, side, 0.0)),
        sum_classes(-log_b - jnp.where(b >= 0.0, b * not_rho, -b * rho)),
    )
    loss = jnp.asarray(sum(weights[i] * term for i, term in enumerate(terms)))

    slope = weights[0] * weight * mask * not_mask / total  # of the cross-entropy, in x
    return (loss, terms), (
        -sum_classes(slope * x) / temperature,
        weights[0] * (weight * (mask + rest) / total - is_target.astype(weight.dtype)),
        weights[1] * (rho - q) + weights[3] * (b * rho * not_rho),
        slope / temperature
        + weights[1] * (q * not_q * a_minus_b)
        + weights[2] * jnp.where(is_target, -wrong, wrong),
    )


def _sum(values: Array) -> Array:
    return jnp.sum(values, axis=-1)


def _sum_on_cpu(values: Array) -> Array:
    # XLA:CPU adds the numbers of a row one after the other, but has fast products.
    ones = jnp.ones(values.shape[-1], values.dtype)
    return jnp.dot(values, ones, precision=lax.Precision.HIGHEST)


def _log1p_exp_abs(logits: Array) -> Array:
    """log(1 + exp(-|logits|)), with a relative error of 2e-7 in float32.

    XLA's log1p takes three times as long as this polynomial, fitted to log1p(s) / s at the
    Chebyshev nodes of [0, 1].
    """
    small = jnp.exp(-jnp.abs(logits))
    if small.dtype != jnp.float32:
        return jnp.log1p(small)
    result = jnp.full_like(small, _LOG1P[-1])
    for coefficient in _LOG1P[-2::-1]:
        result = result * small + coefficient
    # Or XLA would compute it again for each of the sums that read it.
    return lax.optimization_barrier(result * small)
