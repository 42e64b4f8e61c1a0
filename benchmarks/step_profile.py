"""The kernels of a training step, and which part of the step each belongs to."""

import collections
import gzip
import json
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from benchmarks import recipe
from benchmarks.peers import ours
from benchmarks.worker import STEPS_A_CALL
from experiments.data.split import Split

_INSTRUCTION = re.compile(r'^ *(?:ROOT )?%(\S+) = .*metadata=\{op_name="([^"]*)"')
_LAYERS = {
    "ConvReluPool_0": "convolution 1",
    "ConvReluPool_1": "convolution 2",
    "DenseRelu_0": "dense",
    "heads": "heads",
}


def measure(
    model: str, network: str, train: Split, num_steps: int, programs: Path
) -> dict[str, Any]:
    """Takes some steps under JAX's profiler.

    Args:
        model: A name of `MODELS`.
        network: A name of `NETWORKS`.
        train: The training set.
        num_steps: Steps to average over, rounded up to whole epochs.
        programs: Folder that XLA writes its optimised programs to.

    Returns:
        `model`, `network`; `steps`, the number taken; `step_milliseconds`, by the clock;
        `kernel_milliseconds` of a step, by part of the step.
    """
    num_steps = -(-num_steps // STEPS_A_CALL) * STEPS_A_CALL
    before = set(programs.iterdir())
    trainer = ours.make(model, network, recipe.make_params(network), train.images, train.labels)
    trainer.run(2 * STEPS_A_CALL)
    start = time.perf_counter()
    trainer.run(num_steps)
    seconds = time.perf_counter() - start
    trace = programs / f"trace-{model}-{network}"
    with jax.profiler.trace(str(trace)):
        trainer.run(num_steps)
    names = _op_names(set(programs.iterdir()) - before)
    (events,) = trace.rglob("*.trace.json.gz")
    kernels = _kernel_seconds(events, names)
    parts: dict[str, float] = collections.defaultdict(float)
    for kernel, kernel_seconds in kernels.items():
        # A product that is fused with a transposition has the transposition's name.
        is_product = names[kernel].endswith("dot_general") or kernel.startswith("dot")
        parts[part_of(names[kernel], is_product)] += kernel_seconds
    return {
        "model": model,
        "network": network,
        "steps": num_steps,
        "step_milliseconds": 1e3 * seconds / num_steps,
        "kernel_milliseconds": {
            part: 1e3 * total / num_steps for part, total in sorted(parts.items())
        },
    }


def part_of(op_name: str, is_product: bool) -> str:
    """The part of a training step that an operation belongs to, by the name that JAX gives it.

    >>> part_of("jit(f)/while/transpose(jvp(CNN))/ConvReluPool_1/cond/dot_general", True)
    'convolution 2, backward, products'
    >>> part_of("jit(f)/while/body/jvp(LeNet)/DenseRelu_0/max", False)
    'dense, forward, rest'
    >>> part_of("jit(f)/while/body/jvp(vmap())/exp", False)
    'loss and noise'
    >>> part_of("jit(f)/while/body/mul", False)
    'optimiser, batch and sums'
    """
    layers = [layer for name, layer in _LAYERS.items() if f"/{name}/" in op_name]
    if not layers:
        return "loss and noise" if "jvp(" in op_name else "optimiser, batch and sums"
    direction = "backward" if "transpose(" in op_name else "forward"
    return f"{layers[0]}, {direction}, {'products' if is_product else 'rest'}"


def _op_names(programs: Iterable[Path]) -> dict[str, str]:
    """JAX's name for each instruction of the largest program, which is the training program."""
    optimised = [path for path in programs if path.name.endswith("after_optimizations.txt")]
    largest = max(optimised, key=lambda path: path.stat().st_size)
    found = map(_INSTRUCTION.match, largest.read_text().splitlines())
    return {match[1]: match[2] for match in found if match}


def _kernel_seconds(trace: Path, names: Iterable[str]) -> dict[str, float]:
    """Seconds of each instruction except loops, whose own kernels are in the trace."""
    seconds: dict[str, float] = collections.defaultdict(float)
    kernels = {name for name in names if not name.startswith(("while", "call", "conditional"))}
    for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]:
        if event.get("ph") == "X" and event["name"] in kernels:
            seconds[event["name"]] += event["dur"] / 1e6
    return seconds
