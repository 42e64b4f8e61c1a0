"""The time of the loss alone, forward and backward, beside optax's softmax cross-entropy.

All functions write their gradients into given arrays, as a training program does in every step, so
that the times exclude allocation.
"""

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from benchmarks.recipe import TEMPERATURE
from dropmax_jax import (
    Heads,
    LossTerms,
    concrete_log_mask,
    dropmax_balanced_loss,
    dropmax_loss,
    dropmax_loss_and_terms,
    dropmax_loss_terms,
    posterior_logits,
)

NUMBER_BYTES = 4
# Arrays of [batch, classes] that must pass between processor and memory. The forward and the
# backward pass each read every head, and its gradient is written.
ARRAYS_MOVED = {"softmax": 3, "dropmax": 9}
TRIAD_NUMBERS = 2**26

Shape = tuple[int, int]
Buffers = tuple[Array, ...]


class Call(NamedTuple):
    """A compiled function, called again and again.

    Attributes:
        compiled: Maps inputs and the arrays it may overwrite to new such arrays.
        inputs: The names of its inputs.
        bytes_between: Memory that it uses meanwhile, besides inputs and results.
    """

    compiled: Any
    inputs: tuple[str, ...]
    bytes_between: int


def measure(shape: Shape, rounds: int, seconds: float, max_bytes: float) -> dict[str, Any]:
    """Measures all functions for one batch and number of classes, in turn.

    Args:
        shape: Batch and classes.
        rounds: How many turns each function has.
        seconds: Length of a turn; a turn has at least one call.
        max_bytes: Memory that may be used.

    Returns:
        `batch`, `classes`; `milliseconds`, which has a value per round for each function;
        `arrays_between`, the memory each uses meanwhile, in arrays of [batch, classes]. If the
        memory does not suffice, `bytes_needed` replaces these two.
    """
    calls = _compile(shape)
    array_bytes = math.prod(shape) * NUMBER_BYTES
    # The inputs and the arrays for gradients, eight in all, are there all the time.
    needed = 8 * array_bytes + max(call.bytes_between for call in calls.values())
    record: dict[str, Any] = {"batch": shape[0], "classes": shape[1]}
    if needed > max_bytes:
        return {**record, "bytes_needed": needed}
    inputs = _inputs(shape)
    buffers = [jnp.zeros(shape) for _ in range(3)]

    def repeat(call: Call) -> Callable[[], None]:
        given = [inputs[name] for name in call.inputs]

        def once() -> None:
            _, buffers[:] = jax.block_until_ready(call.compiled(*given, tuple(buffers)))

        return once

    timed = alternate({name: repeat(call) for name, call in calls.items()}, rounds, seconds)
    return {
        **record,
        "milliseconds": {name: [1e3 * value for value in values] for name, values in timed.items()},
        "arrays_between": {
            name: round(call.bytes_between / array_bytes, 2) for name, call in calls.items()
        },
    }


def bandwidth(rounds: int, seconds: float, max_bytes: float) -> float:
    """Bytes a second that pass between processor and memory in a triad, `a = b + s c`.

    Counts two arrays read and one written, as STREAM does, and uses the fastest round.
    """
    size = max(1, min(TRIAD_NUMBERS, int(max_bytes / (4 * NUMBER_BYTES))))

    @functools.partial(jax.jit, donate_argnums=0, keep_unused=True)
    def triad(a: Array, b: Array, c: Array) -> Array:
        del a
        return b + 0.5 * c

    arrays = [jnp.full(size, value) for value in (0.0, 1.0, 2.0)]

    def once() -> None:
        arrays[0] = jax.block_until_ready(triad(*arrays))

    best = min(alternate({"triad": once}, rounds, seconds)["triad"])
    return 3 * size * NUMBER_BYTES / best


def alternate(
    functions: Mapping[str, Callable[[], None]], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds per call of each function, a value per round; each has one turn in a round."""
    found: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            function()
            calls, start = 0, time.perf_counter()
            while calls == 0 or time.perf_counter() - start < seconds:
                function()
                calls += 1
            found[name].append((time.perf_counter() - start) / calls)
    return found


def bytes_moved(model: str, shape: Shape) -> int:
    """The least that must pass between processor and memory; see `ARRAYS_MOVED`.

    >>> bytes_moved("dropmax", (128, 10))
    46080
    """
    return ARRAYS_MOVED[model] * math.prod(shape) * NUMBER_BYTES


def _softmax(logits: Array, labels: Array) -> Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def _dropmax(heads: Heads, labels: Array, key: Array) -> Array:
    return jnp.mean(dropmax_loss(key, heads, labels))


def _dropmax_given_noise(heads: Heads, labels: Array, noise: Array) -> Array:
    log_mask = concrete_log_mask(posterior_logits(heads), noise, TEMPERATURE)
    return jnp.mean(dropmax_loss_terms(heads, labels, log_mask).total)


def _compile(shape: Shape) -> dict[str, Call]:
    logits, labels = _abstract(shape), _abstract(shape[:1], jnp.int32)
    heads = jax.eval_shape(lambda: Heads(*jnp.zeros((3, *shape))))
    key = jax.eval_shape(lambda: jax.random.key(0))

    # Each also returns its value; otherwise part of the forward pass would be left out.
    def softmax(heads: Heads, labels: Array, buffers: Buffers) -> tuple[Array, Buffers]:
        value, gradient = jax.value_and_grad(_softmax)(heads.logits, labels)
        return value, (gradient, *buffers[1:])

    def dropmax(heads: Heads, labels: Array, key: Array, _: Buffers) -> tuple[Array, Buffers]:
        value, gradient = jax.value_and_grad(_dropmax)(heads, labels, key)
        return value, tuple(gradient)

    def dropmax_given_noise(
        heads: Heads, labels: Array, noise: Array, _: Buffers
    ) -> tuple[Array, Buffers]:
        value, gradient = jax.value_and_grad(_dropmax_given_noise)(heads, labels, noise)
        return value, tuple(gradient)

    def dropmax_terms(heads: Heads, labels: Array, key: Array, _: Buffers) -> tuple[Any, Buffers]:
        def loss(heads: Heads) -> tuple[Array, LossTerms]:
            value, terms = dropmax_loss_and_terms(key, heads, labels)
            return jnp.mean(value), jax.tree.map(jnp.mean, terms)

        value, gradient = jax.value_and_grad(loss, has_aux=True)(heads)
        return value, tuple(gradient)

    def dropmax_weights(
        heads: Heads, labels: Array, key: Array, weight: Array, _: Buffers
    ) -> tuple[Array, Buffers]:
        def loss(heads: Heads) -> Array:
            weights = LossTerms(jnp.ones(()), weight, jnp.ones(()), weight)
            return jnp.mean(dropmax_loss(key, heads, labels, weights=weights))

        value, gradient = jax.value_and_grad(loss)(heads)
        return value, tuple(gradient)

    def dropmax_probabilities(
        heads: Heads, probabilities: Array, key: Array, _: Buffers
    ) -> tuple[Array, Buffers]:
        value, gradient = jax.value_and_grad(_dropmax)(heads, probabilities, key)
        return value, tuple(gradient)

    def dropmax_where(
        heads: Heads, labels: Array, key: Array, where: Array, _: Buffers
    ) -> tuple[Array, Buffers]:
        def loss(heads: Heads) -> Array:
            losses = dropmax_loss(key, heads, labels, where=where)
            return jnp.mean(losses, where=where)

        value, gradient = jax.value_and_grad(loss)(heads)
        return value, tuple(gradient)

    def dropmax_balanced(
        heads: Heads, labels: Array, key: Array, _: Buffers
    ) -> tuple[Array, Buffers]:
        def loss(heads: Heads) -> Array:
            return jnp.mean(dropmax_balanced_loss(key, heads, labels))

        value, gradient = jax.value_and_grad(loss)(heads)
        return value, tuple(gradient)

    def uniform(key: Array, buffers: Buffers) -> tuple[Array, Buffers]:
        return jnp.zeros(()), (jax.random.uniform(key, shape), *buffers[1:])

    functions: list[tuple[Any, dict[str, Any]]] = [
        (softmax, {"heads": heads, "labels": labels}),
        (dropmax, {"heads": heads, "labels": labels, "key": key}),
        (dropmax_given_noise, {"heads": heads, "labels": labels, "noise": logits}),
        (uniform, {"key": key}),
        (dropmax_terms, {"heads": heads, "labels": labels, "key": key}),
        (dropmax_weights, {"heads": heads, "labels": labels, "key": key, "weight": _abstract(())}),
        (dropmax_balanced, {"heads": heads, "labels": labels, "key": key}),
        (dropmax_probabilities, {"heads": heads, "probabilities": logits, "key": key}),
        (
            dropmax_where,
            {"heads": heads, "labels": labels, "key": key, "where": _abstract(shape[:1], bool)},
        ),
    ]
    calls = {}
    for function, inputs in functions:
        jitted = jax.jit(function, donate_argnums=len(inputs), keep_unused=True)
        compiled = jitted.lower(*inputs.values(), (logits,) * 3).compile()
        memory: Any = compiled.memory_analysis()
        calls[function.__name__] = Call(compiled, tuple(inputs), memory.temp_size_in_bytes)
    return calls


def _inputs(shape: Shape) -> dict[str, Any]:
    keys = jax.random.split(jax.random.key(0), 5)
    normal = jax.jit(jax.random.normal, static_argnums=1)
    return {
        "heads": Heads(*(normal(key, shape) for key in keys[:3])),
        "labels": jax.random.randint(keys[3], shape[:1], 0, shape[1]),
        "key": jax.random.key(1),
        "weight": jnp.float32(0.5),
        "where": jnp.arange(shape[0]) < 0.9 * shape[0],
        "probabilities": jax.nn.softmax(normal(keys[4], shape)),
        "noise": jax.jit(jax.random.logistic, static_argnums=1)(keys[4], shape),
    }


def _abstract(shape: Sequence[int], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(shape), dtype)
