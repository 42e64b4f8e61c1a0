"""What the losses need of a block of classes, with derivatives taken by hand.

Each function makes a `Reduction`. As in `_elements`, b and c are the logits of ρ and r.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from dropmax_jax import _checks, _elements, _noise
from dropmax_jax._classes import Classes
from dropmax_jax._loss_terms import masked_logits
from dropmax_jax.concrete import log_sigmoid
from dropmax_jax.linear._blocks import Reduced, Reduction
from dropmax_jax.linear._division import Known

_Heads = tuple[Array, ...]


class Setting(NamedTuple):
    """What DropMax's reductions need to know while tracing.

    Attributes:
        classes: How to reduce over those of a block.
        epsilon: ε.
        shape: `[N, K]` of the whole.
        smoothing: Which part of a label is spread over all classes.
        learns_temperature: Whether the temperature has a derivative.
    """

    classes: Classes
    epsilon: float
    shape: tuple[int, int]
    smoothing: float
    learns_temperature: bool

    def label(self, known: Known) -> Array:
        """The target `[n, k]`, booleans; with smoothing, the labels' probabilities."""
        target = known.target()
        if not self.smoothing:
            return target
        count: Array | int = (
            self.shape[1] if known.num_classes is None else known.num_classes[:, None]
        )
        uniform = self.smoothing / count
        y = jnp.where(target, 1.0 - self.smoothing + uniform, uniform)
        return y if known.exists is None else jnp.where(known.exists, y, 0.0)

    def mask_logits(self, heads: _Heads, y: Array, known: Known, temperature: Array) -> Array:
        """x, the logits of the mask."""
        _, b, c = heads
        columns = known.columns.astype(jnp.uint32)
        noise = _noise.logistic_at(known.words, self.shape, b.dtype, known.rows, columns)
        return _elements.mask_logits(y, lax.stop_gradient(b) + c, noise, temperature)

    def of_temperature(self, of_x: Array, x: Array, temperature: Array) -> Array:
        """The temperature's slope, given that of x."""
        if not self.learns_temperature:
            return jnp.zeros_like(temperature)
        return -jnp.sum(of_x * x) / temperature


def softmax(setting: Setting) -> Reduction:
    """The logsumexp; the sums are the logit of the label, and that of all."""
    classes = setting.classes

    def reduce(heads: _Heads, known: Known, scalars: None, per_row: None) -> Reduced:
        (logits,) = heads
        logits = _checks.bounded_below(logits)
        log_total = classes.logsumexp(logits)[:, 0]
        of_label = classes.sum(jnp.where(known.target(), logits, 0.0))
        every = logits if known.exists is None else jnp.where(known.exists, logits, 0.0)
        return Reduced(log_total, (of_label, classes.sum(every)))

    def pull(
        slopes: Reduced,
        log_total: Array,
        heads: _Heads,
        known: Known,
        scalars: None,
        per_row: None,
    ) -> tuple[_Heads, None, None]:
        (logits,) = heads
        of_log_total, of_label, of_sum = _columns(slopes)
        of_logits = of_log_total * jnp.exp(logits - log_total[:, None]) + of_sum
        return (of_logits + jnp.where(known.target(), of_label, 0.0),), None, None

    return Reduction(True, 2, reduce, pull)


def dropmax(setting: Setting) -> Reduction:
    """The log of the sum over masked classes.

    The sums are the logit of the label, the KL divergence, the label regression and the prior's
    negative entropy. The scalar is the temperature. With smoothing, the label is dropped like any
    other class, and its logit is none of the label's.
    """
    classes = setting.classes

    def balance(known: Known) -> tuple[Array | float, Array | float] | None:
        if not classes.balanced:
            return None
        return classes.regression_weights(setting.shape[1], known.num_classes)

    def reduce(heads: _Heads, known: Known, temperature: Array, per_row: None) -> Reduced:
        logits, b, c = heads
        logits, y = _checks.bounded_below(logits), setting.label(known)
        x = setting.mask_logits(heads, y, known, temperature)
        mask = _elements.mask(x, setting.epsilon)
        scaled = logits + mask.scale
        largest = classes.max(scaled)
        total = classes.sum(jnp.exp(scaled - largest) * (mask.kept + mask.rest))
        of_label = classes.sum(jnp.where(known.target(), logits, 0.0))
        parts = _elements.regularisers(y, b, c, balance(known))
        return Reduced(largest[:, 0] + jnp.log(total), (of_label, *map(classes.sum, parts[:3])))

    def pull(
        slopes: Reduced,
        log_total: Array,
        heads: _Heads,
        known: Known,
        temperature: Array,
        per_row: None,
    ) -> tuple[_Heads, Array, None]:
        logits, b, c = heads
        logits, y = _checks.bounded_below(logits), setting.label(known)
        x = setting.mask_logits(heads, y, known, temperature)
        mask = _elements.mask(x, setting.epsilon)
        of_log_total, of_label, of_kl, of_regression, of_entropy = _columns(slopes)
        weight = of_log_total * jnp.exp(logits + mask.scale - log_total[:, None])
        of_logits = weight * (mask.kept + mask.rest) + jnp.where(known.target(), of_label, 0.0)
        of_x = weight * mask.kept * mask.not_z
        parts = _elements.regularisers(y, b, c, balance(known))
        of_b = of_kl * parts.kl_of_b + of_entropy * parts.negative_entropy_of_b
        of_c = of_kl * parts.kl_of_c + of_regression * parts.regression_of_c
        of_heads = of_logits, of_b, of_c + of_x / temperature
        return of_heads, setting.of_temperature(of_x, x, temperature), None

    return Reduction(True, 4, reduce, pull)


def mean_mask(setting: Setting) -> Reduction:
    """The log of the sum over classes under the mean ρ of the mask; no sums."""
    classes, epsilon = setting.classes, setting.epsilon

    def reduce(heads: _Heads, known: Known, scalars: None, per_row: None) -> Reduced:
        return Reduced(classes.logsumexp(mean_masked(heads, epsilon))[:, 0], ())

    def pull(
        slopes: Reduced,
        log_total: Array,
        heads: _Heads,
        known: Known,
        scalars: None,
        per_row: None,
    ) -> tuple[_Heads, None, None]:
        (slope,), (logits, b) = _columns(slopes), heads
        mask = _elements.mask(b, epsilon)
        scaled = _checks.bounded_below(logits) + mask.scale
        weight = slope * jnp.exp(scaled - log_total[:, None])
        of_heads = weight * (mask.kept + mask.rest), weight * mask.kept * mask.not_z
        return of_heads, None, None

    return Reduction(True, 0, reduce, pull)


def mean_masked(heads: _Heads, epsilon: float) -> Array:
    """Logits + log(ρ + ε)."""
    logits, b = heads
    return masked_logits(logits, log_sigmoid(b), _checks.log_epsilon(epsilon))


def soft_cross_entropy(setting: Setting) -> Reduction:
    """The sum of the cross-entropy of smoothed labels.

    Numbers of rows are the log of the sum over classes.
    """

    def elements(
        heads: _Heads, known: Known, temperature: Array, log_total: Array
    ) -> tuple[Array, _elements.SoftCrossEntropy]:
        logits, y = _checks.bounded_below(heads[0]), setting.label(known)
        x = setting.mask_logits(heads, y, known, temperature)
        z = _elements.mask(x, setting.epsilon).z
        return x, _elements.soft_cross_entropy(y, logits, x, z, log_total[:, None])

    def reduce(heads: _Heads, known: Known, temperature: Array, log_total: Array) -> Reduced:
        _, soft = elements(heads, known, temperature, log_total)
        return Reduced(None, (setting.classes.sum(soft.value),))

    def pull(
        slopes: Reduced,
        _: None,
        heads: _Heads,
        known: Known,
        temperature: Array,
        log_total: Array,
    ) -> tuple[_Heads, Array, Array]:
        x, soft = elements(heads, known, temperature, log_total)
        (slope,) = _columns(slopes)
        of_x = slope * soft.of_x
        of_heads = slope * soft.of_logits, jnp.zeros_like(x), of_x / temperature
        of_log_total = setting.classes.sum(slope * soft.of_log_total)
        return of_heads, setting.of_temperature(of_x, x, temperature), of_log_total

    return Reduction(False, 1, reduce, pull)


def _columns(slopes: Reduced) -> list[Array]:
    given = slopes.sums if slopes.log_total is None else (slopes.log_total, *slopes.sums)
    return [slope[:, None] for slope in given]
