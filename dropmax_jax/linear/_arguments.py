"""Checks of features, kernels and biases, and how their work is divided."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from dropmax_jax import _checks, _noise, _where
from dropmax_jax._classes import Classes
from dropmax_jax.heads import Heads
from dropmax_jax.linear._blocks import common, product
from dropmax_jax.linear._division import Known, Layers, Plan
from dropmax_jax.linear._reductions import Setting

# Examples and classes of a block, chosen with the flag `--blocks` of `benchmarks.loss` and
# `benchmarks.accelerator`: docs/performance.md.
BLOCK_SIZES = {"cpu": (1024, 512), "default": (8192, 4096)}
# Over how many devices the classes can be spread under jit, each with a part of every block.
_MAX_SEGMENTS = 64
# The heads of a class that does not exist, in the order of `Heads`.
_ABSENT = tuple(_where.ABSENT[name] for name in Heads._fields)


class Counted(NamedTuple):
    """Which examples count, and which classes exist; None for all.

    Attributes:
        examples: Booleans `[N or 1]`.
        classes: Booleans `[N or 1, K]`.
        num_classes: How many classes exist, `[N or 1]`.
    """

    examples: Array | None = None
    classes: Array | None = None
    num_classes: Array | None = None

    def per_example(self, values: Array) -> Array:
        """Values `[N, ...]` of the examples that count, and 0 for the rest."""
        if self.examples is None:
            return values
        return jnp.where(self.examples.reshape(-1, *[1] * (values.ndim - 1)), values, 0.0)


class Arguments(NamedTuple):
    """Arguments that are checked, N examples in a row.

    Attributes:
        layers: One for each head.
        plans: How to divide the work, on CPU and elsewhere.
        batch: The shape `[...]` of the examples.
        dtype: Of heads and results.
        counted: What counts.
    """

    layers: Layers
    plans: tuple[Plan, Plan]
    batch: tuple[int, ...]
    dtype: Any
    counted: Counted

    @property
    def rows(self) -> Array:
        """The features `[N, D]`."""
        return self.layers.features[0]

    @property
    def num_rows(self) -> int:
        """N."""
        return self.rows.shape[0]

    @property
    def num_classes(self) -> int:
        """How many classes are here."""
        return self.layers.kernels[0].shape[1]


def parse_heads(
    features: ArrayLike,
    kernels: Heads,
    biases: Heads | None,
    fields: Sequence[str],
    where: ArrayLike | None,
    classes: Classes,
    block_size: Any,
) -> Arguments:
    """`parse` for some of the heads."""

    def named(name: str, heads: Any) -> dict[str, Any]:
        if not isinstance(heads, Heads):
            described = _checks.describe(heads)
            raise TypeError(f"{name} must be a dropmax_jax.Heads, but is {described}")
        return {f"{name}.{field}": getattr(heads, field) for field in fields}

    added = None if biases is None else named("biases", biases)
    return parse(features, named("kernels", kernels), added, where, classes, block_size)


def parse(
    features: ArrayLike,
    kernels: Mapping[str, Any],
    biases: Mapping[str, Any] | None,
    where: ArrayLike | None,
    classes: Classes,
    block_size: Any,
) -> Arguments:
    """The arguments, checked; kernels and biases by the names of messages."""
    sizes = BLOCK_SIZES.values() if block_size is None else [_pair(block_size)] * 2
    array = _checks.float_array("features", features)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"features must have shape [..., D], but have shape {array.shape}")
    batch, width = array.shape[:-1], array.shape[-1]
    weights = {name: _weights(name, kernel, width) for name, kernel in kernels.items()}
    first, *others = weights
    num_classes = weights[first][-1].shape[1]
    for name in others:
        if weights[name][-1].shape[1] != num_classes:
            raise ValueError(
                f"{name} must be for {num_classes} classes, as {first}, "
                f"but has shape {weights[name][-1].shape}"
            )
    added = None if biases is None else _biases(biases, num_classes)
    double = any(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves((array, weights, added)))
    dtype = jnp.dtype(jnp.float64 if double else jnp.float32)
    counted = _counted(where, batch, num_classes, dtype, classes)
    read = [counted.per_example(array.reshape(math.prod(batch), width))]
    sources = []
    for *factors, _ in weights.values():
        sources.append(len(read) if factors else 0)
        for factor in factors:
            read.append(product(dtype, read[0], factor).astype(common(dtype, read[0], factor)))
    layers = Layers(tuple(read), tuple(kernel for *_, kernel in weights.values()), added)
    on_cpu, elsewhere = (
        Plan(
            tuple(sources),
            _ABSENT[: len(sources)],
            dtype,
            *_divide((read[0].shape[0], num_classes), size),
        )
        for size in sizes
    )
    return Arguments(layers, (on_cpu, elsewhere), batch, dtype, counted)


def _divide(shape: tuple[int, int], block_size: tuple[int, int]) -> tuple[int, int, int]:
    """Blocks of rows, classes of a segment in a block, and segments."""
    num_rows, num_classes = shape
    rows = 1
    # In a program exported for any batch, the number of rows is a symbol, which cannot be divided.
    if isinstance(num_rows, int):
        rows = -(-num_rows // block_size[0])
        # If possible, a divisor of the rows.
        divisors = (number for number in range(rows, 2 * rows) if num_rows % number == 0)
        rows = next(divisors, rows)
    segments = math.gcd(num_classes, min(jax.device_count(), _MAX_SEGMENTS))
    in_segment = num_classes // segments
    blocks = -(-in_segment // max(1, block_size[1] // segments))
    return rows, -(-in_segment // blocks), segments


def labels(value: ArrayLike, given: Arguments) -> Array:
    """Labels, one for each of the features."""
    shape = (*given.batch, given.num_classes)
    return _checks.label_array(value, shape, "features", last="feature")


def known(given: Arguments, labels: Array, classes: Classes, key: Array | None = None) -> Known:
    """What is known beside the heads."""
    words = jnp.zeros(2, jnp.uint32) if key is None else _noise.threefry_key(jnp.asarray(key))
    first = jnp.asarray(classes.share(), jnp.int32) * given.num_classes
    rows = jnp.arange(given.num_rows, dtype=jnp.uint32)
    labels = labels.reshape(-1).astype(jnp.int32)
    return Known(labels, rows, first[None], words, *given.counted[1:])


def setting(
    given: Arguments, classes: Classes, label_smoothing: float = 0.0, epsilon: float = 0.0
) -> Setting:
    """What the reductions need to know while tracing."""
    smoothing = _checks.real("label_smoothing", label_smoothing)
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be from 0 to 1, but is {smoothing}")
    shape = (given.num_rows, given.num_classes * classes.num_shares())
    return Setting(classes, float(epsilon), shape, smoothing, learns_temperature=False)


def _counted(
    where: ArrayLike | None,
    batch: tuple[int, ...],
    num_classes: int,
    dtype: jnp.dtype,
    classes: Classes,
) -> Counted:
    """Classes that exist for all examples are not repeated for each."""
    if where is None:
        return Counted()
    array = _checks.bool_array("where", where)
    is_shared = array.ndim == len(batch) + 1 and math.prod(array.shape[:-1]) == 1
    shape = (*(array.shape[:-1] if is_shared else batch), num_classes)
    examples, exists, _ = _where.parse(array, shape, classes.axis_name)
    assert examples is not None
    if exists is None:
        return Counted(examples.reshape(-1))
    # An example without classes has no loss, whatever its heads are.
    examples = examples.reshape(-1)
    exists = exists.reshape(-1, num_classes) | ~examples[:, None]
    count = jnp.maximum(classes.sum(exists.astype(dtype)), 1.0)
    return Counted(examples, exists, count)


def _pair(block_size: Any) -> tuple[int, int]:
    if not isinstance(block_size, tuple | list) or len(block_size) != 2:
        raise TypeError(
            f"block_size must be two integers, of examples and of classes, but is {block_size!r}"
        )
    rows, classes = (_checks.positive_int("block_size", size) for size in block_size)
    return rows, classes


def _matrix(name: str, value: ArrayLike, rows: int) -> Array:
    array = _checks.class_array(name, value)
    if array.ndim != 2 or array.shape[0] != rows:
        raise ValueError(f"{name} must have shape ({rows}, K), but has shape {array.shape}")
    return array


def _weights(name: str, kernel: Any, width: int) -> tuple[Array, ...]:
    """A kernel alone, or the two factors of one of low rank."""
    if not isinstance(kernel, tuple | list):
        return (_matrix(name, kernel, width),)
    if len(kernel) != 2:
        raise ValueError(f"{name} must be an array or two factors, but has {len(kernel)} parts")
    first = _matrix(f"{name}[0]", kernel[0], width)
    return first, _matrix(f"{name}[1]", kernel[1], first.shape[1])


def _biases(biases: Mapping[str, Any], num_classes: int) -> tuple[Array, ...]:
    found = []
    for name, value in biases.items():
        bias = _checks.class_array(name, value)
        if bias.shape != (num_classes,):
            raise ValueError(f"{name} must have shape ({num_classes},), but has shape {bias.shape}")
        found.append(bias)
    return tuple(found)
