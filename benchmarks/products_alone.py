"""The matrix products of a training step alone; convolutions are plain products of patches.

Operands lie ready in memory in the shape of the product, without padding. Nothing is rearranged,
pooled, activated, drawn or updated. Each product writes its result or the transpose, whichever
takes less time here.
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.products import products
from benchmarks.recipe import Params, Trainer


class Operands(NamedTuple):
    """What a layer multiplies: inputs `[M, K]`, kernel `[K, N]`, the output's gradient `[M, N]`."""

    inputs: Array
    kernel: Array
    gradient: Array


Multiply = Callable[[Operands], Array]

# The output and the gradients of the kernel and of the inputs, each with its transpose.
_PRODUCTS: tuple[tuple[Multiply, Multiply], ...] = (
    (lambda of: of.inputs @ of.kernel, lambda of: of.kernel.T @ of.inputs.T),
    (lambda of: of.inputs.T @ of.gradient, lambda of: of.gradient.T @ of.inputs),
    (lambda of: of.gradient @ of.kernel.T, lambda of: of.kernel @ of.gradient.T),
)


def make(
    model: str, network: str, params: Params, images: np.ndarray, labels: np.ndarray
) -> Trainer:
    """Mimics a trainer so that we can measure it like one; its results are of no use."""
    del params, images, labels
    layers = products(model, network)
    random = np.random.default_rng(0)

    def draw(*shape: int) -> Array:
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    operands = [Operands(draw(m, k), draw(k, n), draw(m, n)) for m, k, n, _ in layers]
    forms = [
        [_quicker(both, of) for both in _PRODUCTS[: 2 + layer.needs_input_gradient]]
        for of, layer in zip(operands, layers, strict=True)
    ]

    def multiply(operands: list[Operands]) -> list[list[Array]]:
        return [[form(of) for form in chosen] for chosen, of in zip(forms, operands, strict=True)]

    results = jax.tree.map(lambda shape: jnp.zeros(shape.shape), jax.eval_shape(multiply, operands))

    # A step donates the previous results, because a training program also reuses their memory. A
    # loop would copy the operands that it carries in every step.
    @functools.partial(jax.jit, donate_argnums=1, keep_unused=True)
    def step(operands: list[Operands], results: list[list[Array]]) -> list[list[Array]]:
        del results
        return multiply(operands)

    def run(num_steps: int) -> None:
        nonlocal results
        for _ in range(num_steps):
            results = step(operands, results)
        jax.block_until_ready(results)

    return Trainer(run, dict)


def _quicker(both: tuple[Multiply, Multiply], of: Operands) -> Multiply:
    def seconds(form: Multiply) -> float:
        compiled = jax.jit(form)
        times = []
        for _ in range(6):
            start = time.perf_counter()
            jax.block_until_ready(compiled(of))
            times.append(time.perf_counter() - start)
        return min(times[1:])

    return min(both, key=seconds)
