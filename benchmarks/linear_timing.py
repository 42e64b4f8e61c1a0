"""Time and memory of the losses of linear heads, forward and backward, whole and in blocks."""

import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from benchmarks import machine
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
        `size` and `dtype`; for each function its `milliseconds`, a value a round, and its
        `bytes_between`, which the compiled program takes beside inputs and results. On CPU also its
        `peak_bytes`, the most memory of a process that calls it once.
    """
    functions = FUNCTIONS | {f"{one[0]}x{one[1]}": _of_block_size(one) for one in block_sizes}
    make = jax.jit(_inputs, static_argnums=(0, 1))
    shapes = jax.eval_shape(lambda: make(size, jnp.dtype(dtype)))
    given = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes[1:]))
    programs = {
        name: jax.jit(_mean(one)).lower(*shapes).compile() for name, one in functions.items()
    }
    between = {name: _bytes_between(program) for name, program in programs.items()}
    fits = [name for name in programs if 2 * given + between[name] <= max_bytes]
    inputs = make(size, jnp.dtype(dtype)) if fits else ()
    timed = alternate({name: _call(programs[name], inputs) for name in fits}, rounds, seconds)
    record: dict[str, Any] = {
        "size": size._asdict(),
        "dtype": dtype,
        "milliseconds": {name: [1e3 * value for value in values] for name, values in timed.items()},
        "bytes_between": between,
    }
    if jax.default_backend() == "cpu":
        alone = [name for name in fits if name in FUNCTIONS]
        record["peak_bytes"] = {name: _peak_bytes(size, dtype, name) for name in alone}
    return record


def _peak_bytes(size: LinearSize, dtype: str, name: str) -> int:
    """The most memory of a process that calls a function once."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, *map(str, size), dtype, name],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def _call_once(*arguments: str) -> None:
    """Prints the process's peak memory after one call."""
    *size, dtype, name = arguments
    inputs = jax.jit(_inputs, static_argnums=(0, 1))(LinearSize(*map(int, size)), jnp.dtype(dtype))
    _call(jax.jit(_mean(FUNCTIONS[name])).lower(*inputs).compile(), inputs)()
    print(machine.peak_memory_bytes())


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


# Arguments of each are a key, features, labels and kernels.
FUNCTIONS: dict[str, Callable[..., Array]] = {
    "softmax_linear": _softmax_linear,
    "dropmax_linear": dropmax_linear_loss,
    "softmax": _softmax,
    "dropmax": _dropmax,
}

if __name__ == "__main__":
    _call_once(*sys.argv[1:])
