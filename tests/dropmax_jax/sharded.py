"""What functions give on eight devices: `python -m tests.dropmax_jax.sharded`.

Each value is compared with that of one device. The program prints JSON: for each function, mesh and
way to spread the heads, the difference or the error, and the collectives that move whole heads.
With `--times` it measures instead how many times as long a call takes as on one device.
"""

import contextlib
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

if __name__ == "__main__":
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8"
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from dropmax_jax import (
    METHODS,
    Heads,
    Method,
    dropmax_loss,
    dropmax_loss_and_terms,
    dropmax_uncertainty,
    elbo,
    metrics,
)
from dropmax_jax.methods.temperature_scaling import fit_temperature

# So large that the CPU has a program of its own.
SHAPE = (64, 1024)
KEY = jax.random.key(5)
HEADS = Heads(*(jax.random.normal(jax.random.key(i), SHAPE) for i in range(3)))
LABELS = jnp.arange(SHAPE[0]) * 15
# `--times` measures this many times the examples, since a device needs something to do.
TIMED = 32
SPREADS = {
    "batch": (PartitionSpec("b"), PartitionSpec("b")),
    "classes": (PartitionSpec(None, "c"), PartitionSpec()),
    "both": (PartitionSpec("b", "c"), PartitionSpec("b")),
    "both, all labels": (PartitionSpec("b", "c"), PartitionSpec()),
}
MESHES = ("Auto", "Explicit")


def functions() -> dict[str, Callable[..., Any]]:
    """Functions of heads and labels, with the gradients of losses."""

    def with_gradient(loss: Callable[..., jax.Array]) -> Callable[..., Any]:
        return lambda heads, labels: jax.value_and_grad(
            lambda heads: loss(KEY, heads, labels).mean()
        )(heads)

    def soft(key: jax.Array, heads: Heads, labels: jax.Array) -> jax.Array:
        del labels
        return dropmax_loss(key, heads, jax.nn.softmax(heads.logits / 2))

    def of_metric(metric: Callable[..., Any]) -> Callable[..., Any]:
        return lambda heads, labels: metric(jax.nn.log_softmax(heads.logits), labels)

    def of_detection(metric: Callable[..., Any]) -> Callable[..., Any]:
        def detect(heads: Heads, labels: jax.Array) -> Any:
            entropies = metrics.predictive_entropy(jax.nn.log_softmax(heads.logits))
            return metric(entropies, labels % 2 == 0, where=labels % 7 > 0)

        return detect

    found: dict[str, Callable[..., Any]] = {
        "dropmax_loss": with_gradient(dropmax_loss),
        "dropmax_loss, probabilities": with_gradient(soft),
        "elbo": with_gradient(elbo),
    }
    for name, method in METHODS.items():
        if name in ("temperature_scaling", "mc_dropout"):
            continue  # On a mesh they are the softmax.

        def of(heads: Heads, method: Method = method) -> Heads:
            return Heads(**{name: getattr(heads, name) for name in method.heads})

        found[f"{name}.loss"] = with_gradient(
            lambda key, heads, labels, method=method, of=of: method.loss(key, of(heads), labels)
        )
        found[f"{name}.log_probs"] = lambda heads, labels, method=method, of=of: method.log_probs(
            of(heads)
        )
    scores = ("error_rate", "nll", "brier")
    calibration = ("expected_calibration_error", "adaptive_calibration_error", "reliability_bins")
    for name in scores + calibration:
        found[name] = of_metric(getattr(metrics, name))
    found["predictive_entropy"] = lambda heads, labels: metrics.predictive_entropy(
        jax.nn.log_softmax(heads.logits)
    )
    for name in ("auroc", "risk_coverage", "area_under_risk_coverage"):
        found[name] = of_detection(getattr(metrics, name))
    found["dropmax_uncertainty"] = lambda heads, labels: dropmax_uncertainty(KEY, heads, 3)
    found["fit_temperature"] = lambda heads, labels: fit_temperature(Heads(heads.logits), labels)
    return found


def use_mesh(mesh: Any) -> Any:
    """`jax.set_mesh`, which jax 0.7 has elsewhere."""
    found: Any = getattr(jax, "set_mesh", None) or vars(jax.sharding)["use_mesh"]
    return found(mesh)


def collectives(program: str) -> Iterator[str]:
    """Collectives that move something as large as a head's share."""
    pattern = r"= (\S+?)\[([\d,]*)\]\S* (all-gather|all-to-all|collective-permute)\("
    for kind, sizes, name in re.findall(pattern, program):
        if np.prod([int(size) for size in sizes.split(",") if size]) > SHAPE[0] * 16:
            yield f"{name} of {kind}[{sizes}]"


def on_mesh(
    function: Callable[..., Any], mesh_type: str, spread: str, heads: Heads, labels: jax.Array
) -> tuple[jax.stages.Compiled, tuple[Heads, jax.Array]]:
    """A function compiled for a mesh, and its arguments there."""
    mesh = jax.make_mesh((2, 4), ("b", "c"), axis_types=(getattr(AxisType, mesh_type),) * 2)
    of_heads, of_labels = (NamedSharding(mesh, spec) for spec in SPREADS[spread])
    there = jax.device_put(heads, of_heads), jax.device_put(labels, of_labels)
    with use_mesh(mesh):
        return jax.jit(function).lower(*there).compile(), there


def compare(function: Callable[..., Any], mesh_type: str, spread: str) -> dict[str, Any]:
    """The outcome of a function on a mesh."""
    wanted = jax.jit(function)(HEADS, LABELS)
    try:
        program, there = on_mesh(function, mesh_type, spread, HEADS, LABELS)
        found = program(*there)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    moves = sorted(set(collectives(str(program.as_text()))))
    return {"difference": difference(found, wanted), "moves": moves}


def times(function: Callable[..., Any]) -> dict[str, float]:
    """How many times as long as on one device a function takes, for each mesh and spread."""
    heads, labels = jax.tree.map(lambda array: jnp.concatenate([array] * TIMED), (HEADS, LABELS))
    calls = {"one device": (jax.jit(function).lower(heads, labels).compile(), (heads, labels))}
    for mesh in MESHES:
        for spread in SPREADS:
            with contextlib.suppress(Exception):  # `compare` reports it.
                calls[f"{mesh}, {spread}"] = on_mesh(function, mesh, spread, heads, labels)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(10):
        for name, (program, arguments) in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    one = medians.pop("one device")
    return {name: round(value / one, 2) for name, value in medians.items()}


def over_classes() -> dict[str, float]:
    """Differences of the loss and terms, and of gradients, under `shard_map` over classes."""
    mesh = jax.make_mesh((2, 4), ("b", "c"), axis_types=(AxisType.Auto,) * 2)
    whole, spread = PartitionSpec(), PartitionSpec(None, "c")
    everywhere = jnp.ones(SHAPE, bool)
    some = everywhere.at[:, 1::3].set(False) | (jnp.arange(SHAPE[1]) == LABELS[:, None])
    cases = {
        "integers": (LABELS, whole, everywhere),
        "probabilities": (jax.nn.softmax(HEADS.logits), spread, everywhere),
        "where": (LABELS, whole, some.at[5].set(False)),
    }

    def loss_and_terms(axis_name: str | None) -> Callable[..., Any]:
        return lambda heads, labels, where: dropmax_loss_and_terms(
            KEY, heads, labels, where=where, axis_name=axis_name
        )

    found: dict[str, float] = {}
    for name, (labels, of_labels, where) in cases.items():
        mapped = jax.shard_map(
            loss_and_terms("c"), mesh=mesh, in_specs=(spread, of_labels, spread), out_specs=whole
        )

        def total(heads: Heads, run: Any, labels: Any = labels, where: Any = where) -> Any:
            return run(heads, labels, where)[0].sum()

        runs = (mapped, loss_and_terms(None))
        values = [jax.jit(run)(HEADS, labels, where) for run in runs]
        gradients = [jax.jit(jax.grad(total), static_argnums=1)(HEADS, run) for run in runs]
        for what, (one, other) in (("values", values), ("gradients", gradients)):
            found[f"{name}, {what}"] = difference(one, other)
    return found


def difference(one: Any, other: Any) -> float:
    """The largest between two pytrees, relative to one plus the size of the value."""

    def largest(a: np.ndarray, b: np.ndarray) -> float:
        gaps = np.abs(a - b) / (1 + np.abs(b))
        return float(np.max(np.where(np.isnan(a) & np.isnan(b), 0, gaps)))

    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return max(largest(np.asarray(a), np.asarray(b)) for a, b in pairs)


def main() -> None:
    """Prints all functions, or those named."""
    names = [name for name in sys.argv[1:] if name != "--times"]
    chosen = {name: one for name, one in functions().items() if not names or name in names}
    if "--times" in sys.argv:
        print(json.dumps({name: times(function) for name, function in chosen.items()}, indent=2))
        return
    found = {
        name: {
            f"{mesh}, {spread}": compare(function, mesh, spread)
            for mesh in MESHES
            for spread in SPREADS
        }
        for name, function in chosen.items()
    }
    print(json.dumps({"jit": found, "shard_map": over_classes()}))


if __name__ == "__main__":
    main()
