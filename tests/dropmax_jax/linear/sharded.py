"""What linear heads give on eight devices: `python -m tests.dropmax_jax.linear.sharded`.

The program prints JSON: for each mesh and way to spread the arrays, the difference from one device
and the collectives that move kernels or heads.
"""

import functools
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

if __name__ == "__main__":
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8"
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dropmax_jax import (
    Heads,
    dropmax_linear_log_probs,
    dropmax_linear_loss,
    dropmax_linear_top_k,
    softmax_linear_loss,
)
from tests.dropmax_jax.linear.heads import KEY, inputs
from tests.dropmax_jax.sharded import collectives, difference, use_mesh

GIVEN = inputs((64, 1024, 32))
BLOCK = (16, 128)
WHOLE = PartitionSpec()
# Of features, and of kernels and biases.
SPREADS = {
    "examples": (PartitionSpec("b"), WHOLE, WHOLE),
    "classes": (WHOLE, PartitionSpec(None, "c"), PartitionSpec("c")),
    "both": (PartitionSpec("b"), PartitionSpec(None, "c"), PartitionSpec("c")),
}
Layers = tuple[jax.Array, Heads, Heads]


def loss_and_gradients(layers: Layers, label_smoothing: float = 0.0) -> Any:
    def mean(features: jax.Array, kernels: Heads, biases: Heads) -> jax.Array:
        return dropmax_linear_loss(
            KEY,
            features,
            GIVEN.labels,
            kernels,
            biases,
            block_size=BLOCK,
            label_smoothing=label_smoothing,
        ).mean()

    return jax.value_and_grad(mean, (0, 1, 2))(*layers)


def everything(layers: Layers) -> Any:
    """What moves no kernel and no head under jit: all but `dropmax_linear_top_k`."""
    features, kernels, biases = layers

    def softmax(kernel: jax.Array) -> jax.Array:
        bias = biases.logits
        return softmax_linear_loss(features, GIVEN.labels, kernel, bias, block_size=BLOCK).mean()

    classes = GIVEN.labels[:, None]
    return (
        loss_and_gradients(layers),
        jax.value_and_grad(softmax)(kernels.logits),
        dropmax_linear_log_probs(features, classes, kernels, biases, block_size=BLOCK),
    )


def under_jit() -> Iterator[tuple[str, Any]]:
    """The outcomes on meshes of automatic and of explicit axes."""
    layers: Layers = (GIVEN.features, GIVEN.kernels, GIVEN.biases)
    function = jax.jit(everything)
    expected = function(layers)
    for mesh_type in ("Auto", "Explicit"):
        mesh = jax.make_mesh((2, 4), ("b", "c"), axis_types=(getattr(AxisType, mesh_type),) * 2)
        for name, specs in SPREADS.items():
            there = jax.device_put(layers, tuple(NamedSharding(mesh, spec) for spec in specs))
            with use_mesh(mesh):
                program = function.lower(there).compile()
                found = program(there)
            yield f"{mesh_type}, {name}", outcome(found, expected, program)


def under_shard_map(label_smoothing: float) -> dict[str, Any]:
    """The outcome with classes spread over an axis of `shard_map`."""
    layers: Layers = (GIVEN.features, GIVEN.kernels, GIVEN.biases)
    mesh = jax.make_mesh((2, 4), ("b", "c"), axis_types=(AxisType.Auto,) * 2)
    specs = SPREADS["classes"]

    def here(*layers: Any) -> jax.Array:
        features, kernels, biases = layers
        return dropmax_linear_loss(
            KEY,
            features,
            GIVEN.labels,
            kernels,
            biases,
            block_size=BLOCK,
            label_smoothing=label_smoothing,
            axis_name="c",
        )

    mapped = jax.shard_map(here, mesh=mesh, in_specs=specs, out_specs=WHOLE)
    program = (
        jax.jit(jax.value_and_grad(lambda *layers: mapped(*layers).mean(), (0, 1, 2)))
        .lower(*layers)
        .compile()
    )
    return outcome(program(*layers), loss_and_gradients(layers, label_smoothing), program)


def predictions() -> dict[str, Any]:
    """The outcome of predictions with classes spread over an axis of `shard_map`."""
    layers: Layers = (GIVEN.features, GIVEN.kernels, GIVEN.biases)
    mesh = jax.make_mesh((2, 4), ("b", "c"), axis_types=(AxisType.Auto,) * 2)

    def predict(axis_name: Any, features: jax.Array, kernels: Heads, biases: Heads) -> Any:
        options = {"block_size": BLOCK, "axis_name": axis_name}
        return (
            dropmax_linear_log_probs(features, GIVEN.labels[:, None], kernels, biases, **options),
            dropmax_linear_top_k(features, 5, kernels, biases, **options),
        )

    mapped = jax.shard_map(
        functools.partial(predict, "c"),
        mesh=mesh,
        in_specs=SPREADS["classes"],
        out_specs=WHOLE,
    )
    program = jax.jit(mapped).lower(*layers).compile()
    return outcome(program(*layers), predict(None, *layers), program)


def outcome(found: Any, expected: Any, program: Any) -> dict[str, Any]:
    """How far the numbers are from those of one device, and what moves."""
    moves = sorted(set(collectives(str(program.as_text()))))
    return {"difference": difference(found, expected), "moves": moves}


def main() -> None:
    """Prints the outcomes."""
    found = dict(under_jit())
    for label_smoothing in (0.0, 0.1):
        found[f"shard_map, {label_smoothing}"] = under_shard_map(label_smoothing)
    found["predictions"] = predictions()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
