"""How rows and classes are divided into blocks."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax


class Layers(NamedTuple):
    """Linear layers, one for each head.

    Attributes:
        features: What they read, `[N, D]` each.
        kernels: `[D, K]` for each layer.
        biases: `[K]` for each layer; None for no biases.
    """

    features: tuple[Array, ...]
    kernels: tuple[Array, ...]
    biases: tuple[Array, ...] | None


class Known(NamedTuple):
    """What a reduction knows beside the heads, without derivatives.

    Attributes:
        labels: int32 `[N]`.
        rows: Numbers of the rows, uint32 `[N]`.
        columns: Numbers of the classes, int32 `[K]`; of the first one alone, `[1]`, for all.
        words: Of the key of the noise, uint32 `[2]`.
        exists: Which classes do, booleans `[N or 1, K]`; None if all do.
        num_classes: How many do, `[N or 1]`; None if all do.
        is_new: Which classes of a block are in no block before, booleans `[1, K]`; None for all.
    """

    labels: Array
    rows: Array
    columns: Array
    words: Array
    exists: Array | None
    num_classes: Array | None
    is_new: Array | None = None

    def target(self) -> Array:
        """Booleans `[N, K]`, true for the labels, whether their classes exist or not."""
        target = self.labels[:, None] == self.columns[None]
        return target if self.is_new is None else target & self.is_new


class Plan(NamedTuple):
    """How the work is divided.

    Attributes:
        sources: Which of the features each layer reads.
        absent: The head of a class that does not exist, for each layer.
        dtype: Of heads and reductions, float32 or float64.
        rows: How many blocks of rows there are.
        classes: How many classes of a segment are in a block.
        segments: How many equal, contiguous parts the classes have. A block takes some of each, so
            that classes that are spread over devices stay on theirs.
    """

    sources: tuple[int, ...]
    absent: tuple[float, ...]
    dtype: Any
    rows: int
    classes: int
    segments: int


# Rows, of which a block takes every so many, so that rows that are spread stay on their devices.


def in_blocks(plan: Plan, arrays: Any, with_zeros: bool = False) -> Any:
    """Arrays `[N, ...]` as `[blocks, n, ...]`, filled up with the last row, or with zeros."""

    def divide(array: Array) -> Array:
        size = -(-array.shape[0] // plan.rows)
        missing = size * plan.rows - array.shape[0]
        if missing:
            widths = [(0, missing)] + [(0, 0)] * (array.ndim - 1)
            array = jnp.pad(array, widths, mode="constant" if with_zeros else "edge")
        return array.reshape(size, plan.rows, *array.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(divide, arrays)


def out_of_blocks(num_rows: int, arrays: Any) -> Any:
    """Arrays `[blocks, n, ...]` as `[N, ...]`, without what filled them up."""
    return jax.tree.map(
        lambda array: array.swapaxes(0, 1).reshape(-1, *array.shape[2:])[:num_rows], arrays
    )


def of_rows(known: Known) -> tuple[Array | None, ...]:
    """What is known of each row: labels, numbers, and its own classes, if it has some."""
    of_classes = (known.exists, known.num_classes) if _is_per_row(known) else (None, None)
    return known.labels, known.rows, *of_classes


def _is_per_row(known: Known) -> bool:
    """Whether rows have classes of their own."""
    return known.exists is not None and known.exists.shape[0] == known.labels.size


# Classes, of which a block takes some of each segment.


def block_numbers(plan: Plan, layers: Layers) -> Array:
    """The numbers of the blocks."""
    in_segment = layers.kernels[0].shape[1] // plan.segments
    return jnp.arange(-(-in_segment // plan.classes), dtype=jnp.int32)


def class_block(
    plan: Plan, layers: Layers, known: Known, number: Array
) -> tuple[tuple[Array, ...], tuple[Array, ...] | None, Callable[[Any], Known]]:
    """Kernels and biases of a block, and what is known of its classes and given rows."""
    in_segment = layers.kernels[0].shape[1] // plan.segments
    # The last block begins earlier if the rest is less than a block. It leaves out what was there.
    start = _start(plan, in_segment, number)
    places = start + jnp.arange(plan.classes, dtype=jnp.int32)
    segments = jnp.arange(plan.segments, dtype=jnp.int32)[:, None] * in_segment
    columns = known.columns + (segments + places[None]).reshape(-1)
    is_new = None
    if in_segment % plan.classes:
        is_new = jnp.tile(places >= number * plan.classes, plan.segments)[None]

    def cut(array: Array) -> Array:
        part = lax.dynamic_slice_in_dim(in_segments(plan, array), start, plan.classes, -1)
        return part.reshape(*array.shape[:-1], -1)

    shared = None if known.exists is None or _is_per_row(known) else cut(known.exists)

    def known_of(of_rows: tuple[Array, Array, Array | None, Array | None]) -> Known:
        labels, rows, exists, num_classes = of_rows
        masks = [shared, is_new, None if exists is None else cut(exists)]
        given = [mask for mask in masks if mask is not None]
        return Known(
            labels,
            rows,
            columns,
            known.words,
            functools.reduce(jnp.logical_and, given) if given else None,
            known.num_classes if num_classes is None else num_classes,
            is_new,
        )

    def clean(array: Array) -> Array:
        """What no example has is 0, since not even 0 times NaN is 0."""
        part = cut(array)
        if known.exists is None:
            return part
        is_used = jnp.any(cut(known.exists), axis=0)
        return jnp.where(lax.expand_dims(is_used, range(part.ndim - 1)), part, 0)

    return (*jax.tree.map(clean, (layers.kernels, layers.biases)), known_of)


def add_columns(plan: Plan, number: Array, whole: Array, part: Array) -> Array:
    """Adds the part of a block to what is divided in segments."""
    start = _start(plan, whole.shape[-1], number)
    before = lax.dynamic_slice_in_dim(whole, start, plan.classes, -1)
    part = part.reshape(before.shape).astype(whole.dtype)
    return lax.dynamic_update_slice_in_dim(whole, before + part, start, -1)


def _start(plan: Plan, in_segment: int, number: Array) -> Array:
    return jnp.minimum(number * plan.classes, in_segment - plan.classes)


def in_segments(plan: Plan, array: Array) -> Array:
    """An array `[..., K]` as `[..., segments, K / segments]`."""
    return array.reshape(*array.shape[:-1], plan.segments, -1)
