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
from dropmax_jax.linear._division import Known, Layers, Plan
from dropmax_jax.linear._reductions import Setting

# Examples and classes of a block: the quickest of those that `benchmarks.loss --blocks` tries.
BLOCK_SIZES = {"cpu": (512, 512), "default": (8192, 2048)}
# Over how many devices the classes can be spread under jit, each with a part of every block.
_MAX_SEGMENTS = 64
# The heads of a class that does not exist, in the order of `Heads`.
_ABSENT = tuple(_where.ABSENT[name] for name in Heads._fields)


class Arguments(NamedTuple):
    """Arguments that are checked, N examples in a row.

    Attributes:
        layers: One for each head.
        plans: How to divide the work, on CPU and elsewhere.
        batch: The shape `[...]` of the examples.
        dtype: Of heads and results.
    """

    layers: Layers
    plans: tuple[Plan, Plan]
    batch: tuple[int, ...]
    dtype: Any

    @property
    def num_rows(self) -> int:
        """N."""
        return self.layers.features[0].shape[0]

    @property
    def num_classes(self) -> int:
        """How many classes are here."""
        return self.layers.kernels[0].shape[1]


def of_heads(name: str, heads: Any, fields: Sequence[str]) -> dict[str, Any]:
    """What an argument `name` has for some heads, by the names of messages."""
    if not isinstance(heads, Heads):
        raise TypeError(f"{name} must be a dropmax_jax.Heads, but is a {type(heads).__name__}")
    return {f"{name}.{field}": getattr(heads, field) for field in fields}


def parse(
    features: ArrayLike,
    kernels: Mapping[str, Any],
    biases: Mapping[str, Any] | None,
    block_size: Any,
) -> Arguments:
    """The arguments, checked; kernels and biases by the names of messages."""
    sizes = BLOCK_SIZES.values() if block_size is None else [_pair(block_size)] * 2
    array = _checks.float_array("features", features)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"features must have shape [..., D], but have shape {array.shape}")
    batch, width = array.shape[:-1], array.shape[-1]
    flat = array.reshape(math.prod(batch), width)
    read, sources = [flat], list[int]()
    weights: list[Array] = []
    for name, kernel in kernels.items():
        if isinstance(kernel, tuple | list):
            weight, low = _factors(name, kernel, flat)
            sources.append(len(read))
            read.append(low)
        else:
            weight = _matrix(name, kernel, width)
            sources.append(0)
        if weights and weight.shape[1] != weights[0].shape[1]:
            raise ValueError(
                f"{name} must be for {weights[0].shape[1]} classes, as {next(iter(kernels))}, "
                f"but has shape {weight.shape}"
            )
        weights.append(weight)
    added = None if biases is None else _biases(biases, weights[0].shape[1])
    layers = Layers(tuple(read), tuple(weights), added)
    double = any(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(layers))
    dtype = jnp.dtype(jnp.float64 if double else jnp.float32)
    shape = (flat.shape[0], weights[0].shape[1])
    on_cpu, elsewhere = (
        Plan(tuple(sources), _ABSENT[: len(sources)], dtype, *_divide(shape, size))
        for size in sizes
    )
    return Arguments(layers, (on_cpu, elsewhere), batch, dtype)


def _divide(shape: tuple[int, int], block_size: tuple[int, int]) -> tuple[int, int, int]:
    """Blocks of rows, classes of a segment in a block, and segments."""
    num_rows, num_classes = shape
    fewest = -(-num_rows // block_size[0])
    # If possible, a divisor of the rows.
    divisors = (number for number in range(fewest, 2 * fewest) if num_rows % number == 0)
    segments = math.gcd(num_classes, min(jax.device_count(), _MAX_SEGMENTS))
    in_segment = num_classes // segments
    blocks = -(-in_segment // max(1, block_size[1] // segments))
    return next(divisors, fewest), -(-in_segment // blocks), segments


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
        """Values `[N]` of the examples that count, and 0 for the rest."""
        return values if self.examples is None else jnp.where(self.examples, values, 0.0)


def known(
    given: Arguments,
    labels: Array,
    where: ArrayLike | None,
    classes: Classes,
    key: Array | None = None,
) -> tuple[Counted, Known]:
    """What counts, and what is known beside the heads."""
    counted = _counted(where, given, classes)
    words = jnp.zeros(2, jnp.uint32) if key is None else _noise.threefry_key(jnp.asarray(key))
    first = jnp.asarray(classes.share(), jnp.int32) * given.num_classes
    rows = jnp.arange(given.num_rows, dtype=jnp.uint32)
    labels = labels.reshape(-1).astype(jnp.int32)
    return counted, Known(labels, rows, first[None], words, *counted[1:])


def setting(
    given: Arguments, classes: Classes, label_smoothing: float = 0.0, epsilon: float = 0.0
) -> Setting:
    """What the reductions need to know while tracing."""
    smoothing = _checks.real("label_smoothing", label_smoothing)
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be from 0 to 1, but is {smoothing}")
    shape = (given.num_rows, given.num_classes * classes.num_shares())
    return Setting(classes, float(epsilon), shape, smoothing, learns_temperature=False)


def _counted(where: ArrayLike | None, given: Arguments, classes: Classes) -> Counted:
    """Classes that exist for all examples are not repeated for each."""
    if where is None:
        return Counted()
    batch, num_classes = given.batch, given.num_classes
    array = _checks.bool_array("where", where)
    is_shared = array.ndim == len(batch) + 1 and math.prod(array.shape[:-1]) == 1
    shape = (*(array.shape[:-1] if is_shared else batch), num_classes)
    counts = _where.parse(array, shape, classes.axis_name)
    assert counts.examples is not None
    if counts.classes is None:
        return Counted(counts.examples.reshape(-1))
    exists = counts.classes.reshape(-1, num_classes)
    count = classes.sum(exists.astype(given.dtype))
    return Counted(counts.examples.reshape(-1), exists, jnp.maximum(count, 1.0))


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


def _factors(name: str, pair: Sequence[ArrayLike], features: Array) -> tuple[Array, Array]:
    """The second factor of a kernel of low rank, and what it reads."""
    if len(pair) != 2:
        raise ValueError(f"{name} must be an array or two factors, but has {len(pair)} parts")
    first = _matrix(f"{name}[0]", pair[0], features.shape[1])
    return _matrix(f"{name}[1]", pair[1], first.shape[1]), features @ first


def _biases(biases: Mapping[str, Any], num_classes: int) -> tuple[Array, ...]:
    found = []
    for name, value in biases.items():
        bias = _checks.class_array(name, value)
        if bias.shape != (num_classes,):
            raise ValueError(f"{name} must have shape ({num_classes},), but has shape {bias.shape}")
        found.append(bias)
    return tuple(found)
