"""The losses of linear heads `[N]`, of arguments that are checked."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

from dropmax_jax._classes import Classes
from dropmax_jax.linear import _reductions
from dropmax_jax.linear._blocks import Reduced, Reduction, Ways, reduce_classes, vary_together
from dropmax_jax.linear._division import Known, Layers, Plan
from dropmax_jax.linear._reductions import Setting

Plans = tuple[Plan, Plan]


@functools.partial(jax.jit, static_argnames=("plans", "setting"))
def softmax(layers: Layers, known: Known, *, plans: Plans, setting: Setting) -> Array:
    """The cross-entropy."""
    layers, known = vary_together((layers, known))
    ways = ways_of(_reductions.softmax, plans, setting)
    found = reduce_classes(ways, layers, known, None, None)
    log_total, (of_label, of_all) = over_shares(setting.classes, found)
    share = setting.smoothing
    count = setting.shape[1] if known.num_classes is None else known.num_classes
    return log_total - (1.0 - share) * of_label - (share / count * of_all if share else 0.0)


@functools.partial(jax.jit, static_argnames=("plans", "setting"))
def dropmax(
    layers: Layers, known: Known, temperature: Array, *, plans: Plans, setting: Setting
) -> tuple[Array, ...]:
    """The four terms, in the order of `LossTerms`."""
    layers, known, temperature = vary_together((layers, known, temperature))
    ways = ways_of(_reductions.dropmax, plans, setting)
    found = reduce_classes(ways, layers, known, temperature, None)
    log_total, (of_label, *others) = over_shares(setting.classes, found)
    if setting.smoothing:
        # The log of the sum must be known before the labels' losses are.
        ways = ways_of(_reductions.soft_cross_entropy, plans, setting)
        args = vary_together((layers, known, temperature, log_total))
        _, (cross_entropy,) = over_shares(setting.classes, reduce_classes(ways, *args))
    else:
        cross_entropy = log_total - of_label
    return (cross_entropy - math.log1p(setting.epsilon), *others)


def ways_of(reduction: Callable[[Setting], Reduction], plans: Plans, setting: Setting) -> Ways:
    """A reduction over the classes of a block, on CPU and elsewhere, with the plan for each."""
    here = setting.classes._replace(axis_name=None)
    on_cpu = setting._replace(classes=here._replace(on_cpu=True))
    elsewhere = setting._replace(classes=here)
    return (reduction(on_cpu), plans[0]), (reduction(elsewhere), plans[1])


def over_shares(classes: Classes, found: Reduced) -> tuple[Array, tuple[Array, ...]]:
    """The log of the sum, or 0, and the sums over the classes of all devices."""
    log_total = jnp.zeros(()) if found.log_total is None else found.log_total
    if classes.axis_name is None:
        return log_total, found.sums
    log_total = classes.logsumexp(log_total[..., None])[..., 0]
    return log_total, tuple(lax.psum(each, classes.axis_name) for each in found.sums)
