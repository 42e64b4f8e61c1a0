"""Reductions over the classes of linear heads, in blocks that the backward pass computes again.

The heads of a block are in memory only while the block is, so that nothing of the size `[N, K]`, of
N rows and K classes, ever is.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from dropmax_jax.linear import _division
from dropmax_jax.linear._division import Known, Layers, Plan


class Reduced(NamedTuple):
    """Reductions over classes, `[N]` each: the log of a sum of exponentials, if any, and sums."""

    log_total: Array | None
    sums: tuple[Array, ...]


class Reduction(NamedTuple):
    """What to compute of a block of `[n, k]`.

    Attributes:
        has_log_total: Whether there is the log of a sum.
        num_sums: How many sums there are.
        reduce: Maps the heads `[n, k]`, what is known, scalars, and numbers `[n]` of rows to
            `Reduced`.
        pull: Maps slopes of `Reduced`, the log of the sum over all blocks, and the same arguments
            to the slopes of heads, scalars, and numbers of rows.
    """

    has_log_total: bool
    num_sums: int
    reduce: Callable[[tuple[Array, ...], Known, Any, Any], Reduced]
    pull: Callable[..., tuple[tuple[Array, ...], Any, Any]]


# On CPU, and on other platforms.
Ways = tuple[tuple[Reduction, Plan], tuple[Reduction, Plan]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def reduce_classes(ways: Ways, layers: Layers, known: Known, scalars: Any, per_row: Any) -> Reduced:
    """The reductions of all classes, from those of blocks.

    Under `shard_map`, all arrays must vary over the same axes: `vary_together`.
    """
    return _forward_anywhere(ways, layers, known, scalars, per_row)[0]


def _forward_anywhere(ways: Ways, *args: Any) -> tuple[Reduced, Any]:
    on_cpu, elsewhere = (functools.partial(_forward, *way) for way in ways)
    result: Reduced = lax.platform_dependent(*args, cpu=on_cpu, default=elsewhere)
    return result, (*args, result.log_total)


def _backward_anywhere(
    ways: Ways, residuals: Any, slopes: Reduced
) -> tuple[Layers, None, Any, Any]:
    on_cpu, elsewhere = (functools.partial(_backward, *way) for way in ways)
    of_layers, of_scalars, of_per_row = lax.platform_dependent(
        *residuals, slopes, cpu=on_cpu, default=elsewhere
    )
    return of_layers, None, of_scalars, of_per_row


reduce_classes.defvjp(_forward_anywhere, _backward_anywhere)


def _forward(
    reduction: Reduction, plan: Plan, layers: Layers, known: Known, scalars: Any, per_row: Any
) -> Reduced:
    def add(totals: Reduced, heads: tuple[Array, ...], part: Known, per_row: Any) -> Reduced:
        found = reduction.reduce(heads, part, scalars, per_row)
        log_total = None
        if totals.log_total is not None and found.log_total is not None:
            log_total = jnp.logaddexp(totals.log_total, found.log_total)
        return Reduced(log_total, tuple(map(jnp.add, totals.sums, found.sums)))

    zero = zeros(plan, known, known.labels.shape)
    log_zero = zero - jnp.inf if reduction.has_log_total else None
    start = Reduced(log_zero, (zero,) * reduction.num_sums)
    totals: Reduced = fold_classes(add, start, plan, layers, known, per_row)
    return totals


def fold_classes(
    add: Callable[[Any, tuple[Array, ...], Known, Any], Any],
    start: Any,
    plan: Plan,
    layers: Layers,
    known: Known,
    per_row: Any,
) -> Any:
    """Folds the blocks of classes into arrays `[N, ...]`.

    Args:
        add: Maps what was found so far `[n, ...]`, the heads `[n, k]` of a block, what is known of
            it, and numbers `[n]` of its rows to what is found with it.
        start: What is found in no classes, `[N, ...]`.
        plan: How the work is divided.
        layers: The heads.
        known: What else there is.
        per_row: Numbers `[N]`.
    """
    rows = _division.in_blocks(plan, (layers.features, _division.of_rows(known), per_row))

    def add_classes(totals: Any, number: Array) -> tuple[Any, None]:
        kernels, biases, known_of = _division.class_block(plan, layers, known, number)

        def add_rows(block: Any) -> Any:
            (features, of_rows, per_row), totals = block
            part = known_of(of_rows)
            heads = _heads(plan, part.exists, features, kernels, biases)
            return add(totals, heads, part, per_row)

        return lax.map(add_rows, (rows, totals)), None

    totals, _ = lax.scan(
        add_classes, _division.in_blocks(plan, start), _division.block_numbers(plan, layers)
    )
    return _division.out_of_blocks(known.labels.size, totals)


def _backward(
    reduction: Reduction,
    plan: Plan,
    layers: Layers,
    known: Known,
    scalars: Any,
    per_row: Any,
    log_total: Array | None,
    slopes: Reduced,
) -> tuple[Layers, Any, Any]:
    num_rows = known.labels.size
    rows = _division.in_blocks(
        plan, (layers.features, _division.of_rows(known), per_row, log_total)
    )
    slopes = _division.in_blocks(plan, slopes, with_zeros=True)
    none = functools.partial(zeros, plan, known)

    # Both loops carry slopes that they add to: first of features and rows, then of all else.
    def add_classes(found: Any, number: Array) -> tuple[Any, None]:
        of_rows, of_classes, of_scalars = found
        kernels, biases, known_of = _division.class_block(plan, layers, known, number)

        def add_rows(found: Any, block: Any) -> tuple[Any, Any]:
            (features, row, per_row, log_total), slopes, of_rows = block
            part = known_of(row)
            heads = _heads(plan, part.exists, features, kernels, biases)
            of_heads, of_scalars, of_per_row = reduction.pull(
                slopes, log_total, heads, part, scalars, per_row
            )
            of_features, of_layers = _of_layers(plan, part.exists, features, kernels, of_heads)
            here = of_layers if biases is not None else (of_layers[0], None)
            return (
                jax.tree.map(jnp.add, found, (here, of_scalars)),
                jax.tree.map(jnp.add, of_rows, (of_features, of_per_row)),
            )

        here = jax.tree.map(lambda array: none(array.shape), (kernels, biases))
        (here, of_scalars), of_rows = lax.scan(
            add_rows, (here, of_scalars), (rows, slopes, of_rows)
        )
        add = functools.partial(_division.add_columns, plan, number)
        return (of_rows, jax.tree.map(add, of_classes, here), of_scalars), None

    def nothing(array: Array) -> Array:
        return _division.in_segments(plan, none(array.shape).astype(array.dtype))

    shape = (plan.rows, -(-num_rows // plan.rows))
    start = (
        (
            tuple(none((*shape, array.shape[1])) for array in layers.features),
            jax.tree.map(lambda _: none(shape), per_row),
        ),
        jax.tree.map(nothing, (layers.kernels, layers.biases)),
        jax.tree.map(lambda _: none(()), scalars),
    )
    (of_rows, of_classes, of_scalars), _ = lax.scan(
        add_classes, start, _division.block_numbers(plan, layers)
    )
    of_features, of_per_row = _division.out_of_blocks(num_rows, of_rows)
    of_layers = jax.tree.map(
        lambda slope, array: slope.reshape(array.shape).astype(array.dtype),
        Layers(of_features, *of_classes),
        layers,
    )
    return of_layers, of_scalars, of_per_row


def vary_together(arrays: Any) -> Any:
    """Arrays that vary over the same axes of `shard_map`.

    Under `shard_map`, some arrays vary across devices and others do not, and a custom derivative is
    one device's own. `where(False, …)` marks all as varying, and its derivative sums over devices
    what did not vary. XLA removes the `where`.
    """
    leaves, structure = jax.tree.flatten(arrays)
    differing = jnp.zeros((), jnp.float32)
    for leaf in leaves:
        differing += lax.stop_gradient(leaf)[(0,) * leaf.ndim].astype(jnp.float32)
    return jax.tree.unflatten(
        structure, [jnp.where(False, differing.astype(leaf.dtype), leaf) for leaf in leaves]
    )


def zeros(plan: Plan, known: Known, shape: tuple[int, ...]) -> Array:
    """Zeros that vary over the same axes of `shard_map`."""
    differing = jnp.sum(known.words).astype(plan.dtype)
    return jnp.where(False, differing, jnp.zeros(shape, plan.dtype))


def _heads(
    plan: Plan,
    exists: Array | None,
    features: tuple[Array, ...],
    kernels: tuple[Array, ...],
    biases: tuple[Array, ...] | None,
) -> tuple[Array, ...]:
    heads = [
        product(plan.dtype, features[source], kernel)
        for source, kernel in zip(plan.sources, kernels, strict=True)
    ]
    if biases is not None:
        heads = [
            head + bias.astype(plan.dtype)[None] for head, bias in zip(heads, biases, strict=True)
        ]
    if exists is not None:
        heads = [
            jnp.where(exists, head, absent) for head, absent in zip(heads, plan.absent, strict=True)
        ]
    return tuple(heads)


def _of_layers(
    plan: Plan,
    exists: Array | None,
    features: tuple[Array, ...],
    kernels: tuple[Array, ...],
    of_heads: tuple[Array, ...],
) -> tuple[tuple[Array, ...], tuple[tuple[Array, ...], tuple[Array, ...]]]:
    """The slopes of features; and of kernels and biases."""
    of_features = [jnp.zeros_like(array, plan.dtype) for array in features]
    of_kernels, of_biases = [], []
    for source, kernel, of_head in zip(plan.sources, kernels, of_heads, strict=True):
        read = features[source]
        slope = of_head if exists is None else jnp.where(exists, of_head, 0.0)
        of_biases.append(jnp.sum(slope, axis=0))
        slope = slope.astype(common(plan.dtype, read, kernel))
        of_features[source] += product(plan.dtype, slope, kernel.T)
        of_kernels.append(product(plan.dtype, read.T, slope))
    return tuple(of_features), (tuple(of_kernels), tuple(of_biases))


def product(dtype: Any, x: Array, y: Array) -> Array:
    """The product of matrices, added up in the type of the heads."""
    factor = common(dtype, x, y)
    return jnp.matmul(x.astype(factor), y.astype(factor), preferred_element_type=dtype)


def common(dtype: Any, x: Array, y: Array) -> Any:
    """The type to multiply in: that of both, or that of the heads."""
    return x.dtype if x.dtype == y.dtype else dtype
