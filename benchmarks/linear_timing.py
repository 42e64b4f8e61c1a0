"""Time and memory of the losses of linear heads, forward and backward, whole and in blocks."""

import math
import resource
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from benchmarks.checks import LinearSize
from benchmarks.loss_timing import alternate
from dropmax_jax import Heads, dropmax_linear_loss, dropmax_loss, softmax_linear_loss


def measure(
    size: LinearSize,
    dtype: str,
    rounds: int,
    seconds: float,
    max_bytes: float,
    block_sizes: Sequence[tuple[int, int]] = (),
) -> dict[str, Any]:
    """Measures all functions for one size, in turn, with gradients of features and kernels.

    Args:
        size: Examples, classes and features.
        dtype: Of features and kernels.
        rounds: How many turns each function has.
        seconds: Length of a turn; a turn has at least one call.
        max_bytes: Memory that may be used. What needs more is left out.
        block_sizes: DropMax's blocks to measure beside those chosen.

    Returns:
        `size` and `dtype`; for each function its `milliseconds`, a value a round, its
        `bytes_between`, which
        the compiled program takes beside inputs and results, and its `peak_bytes`, the most that
        the process had until its first call was done. Functions go from the least memory up.
    """
    functions: dict[str, Callable[..., Array]] = {
        "softmax_linear": _softmax_linear,
        "dropmax_linear": dropmax_linear_loss,
        "softmax": _softmax,
        "dropmax": _dropmax,
    }
    for block_size in block_sizes:
        functions[f"{block_size[0]}x{block_size[1]}"] = _of_block_size(block_size)
    inputs = jax.jit(_inputs, static_argnums=(0, 1))(size, jnp.dtype(dtype))
    given = sum(leaf.nbytes for leaf in jax.tree.leaves(inputs[1:]))
    programs = {
        name: jax.jit(_mean(one)).lower(*inputs).compile() for name, one in functions.items()
    }
    between = {name: _bytes_between(program) for name, program in programs.items()}
    calls: dict[str, Callable[[], None]] = {}
    peaks = {}
    for name in sorted(programs, key=between.__getitem__):
        if 2 * given + between[name] <= max_bytes:
            calls[name] = _call(programs[name], inputs)
            calls[name]()
            peaks[name] = _peak_bytes()
    timed = alternate(calls, rounds, seconds)
    return {
        "size": size._asdict(),
        "dtype": dtype,
        "milliseconds": {name: [1e3 * value for value in values] for name, values in timed.items()},
        "bytes_between": between,
        "peak_bytes": peaks,
    }


def _inputs(size: LinearSize, dtype: jnp.dtype) -> tuple[Array, Array, Array, Heads]:
    keys = jax.random.split(jax.random.key(0), 4)
    features = jax.random.normal(keys[0], (size.examples, size.features), dtype)
    kernels = jax.random.normal(keys[1], (3, size.features, size.classes), dtype)
    kernels /= math.sqrt(size.features)
    labels = jax.random.randint(keys[2], (size.examples,), 0, size.classes)
    return keys[3], features, labels, Heads(*kernels)


def _mean(loss: Callable[..., Array]) -> Callable[..., Any]:
    def mean(key: Array, features: Array, labels: Array, kernels: Heads) -> Any:
        def of(features: Array, kernels: Heads) -> Array:
            return loss(key, features, labels, kernels).mean()

        return jax.value_and_grad(of, (0, 1))(features, kernels)

    return mean


def _dropmax(key: Array, features: Array, labels: Array, kernels: Heads) -> Array:
    return dropmax_loss(key, Heads(*(features @ kernel for kernel in kernels)), labels)


def _of_block_size(block_size: tuple[int, int]) -> Callable[..., Array]:
    def loss(key: Array, features: Array, labels: Array, kernels: Heads) -> Array:
        return dropmax_linear_loss(key, features, labels, kernels, block_size=block_size)

    return loss


def _softmax(key: Array, features: Array, labels: Array, kernels: Heads) -> Array:
    del key
    logits = jnp.matmul(features, kernels.logits, preferred_element_type=jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def _softmax_linear(key: Array, features: Array, labels: Array, kernels: Heads) -> Array:
    del key
    return softmax_linear_loss(features, labels, kernels.logits)


def _call(program: Any, inputs: tuple[Any, ...]) -> Callable[[], None]:
    def call() -> None:
        jax.block_until_ready(program(*inputs))

    return call


def _bytes_between(program: Any) -> int:
    return int(program.memory_analysis().temp_size_in_bytes)


def _peak_bytes() -> int:
    """The most memory that the device, or on CPU the process, has had."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
