"""The time of the project's training steps on whatever device JAX uses."""

import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.machine import memory_bytes as host_memory_bytes
from experiments.data.split import Split
from experiments.runtime import devices
from experiments.train.config import PRECISIONS, Config
from experiments.train.steps import programs
from experiments.train.steps.setup import make_setup


def measure(
    models: Sequence[str],
    networks: Sequence[str],
    seeds: Sequence[int],
    train: Split,
    rounds: int,
    seconds: float,
) -> list[dict[str, Any]]:
    """Measures each network, model, precision and number of seeds, with one program per epoch.

    Returns:
        A record for each: `steps_per_second` has a value for each round and counts the steps of
        every model; `compile_seconds` is from the call to the end of the first epoch.
    """
    records = []
    for network in networks:
        for model in models:
            for precision in PRECISIONS:
                for num_seeds in seeds:
                    config = Config(
                        model, network, seeds=tuple(range(num_seeds)), precision=precision
                    )
                    case = {
                        "network": network,
                        "model": model,
                        "precision": precision,
                        "seeds": num_seeds,
                    }
                    measured = _measure(config, train, rounds, seconds)
                    rates = ", ".join(f"{rate:.0f}" for rate in measured["steps_per_second"])
                    print(f"{', '.join(map(str, case.values()))}: {rates} steps/s", flush=True)
                    records.append({**case, **measured})
    return records


def memory_bytes(device: Any) -> int:
    """The memory of a device, or of the host for a CPU; 0 if it is unknown."""
    if device.platform == "cpu":
        return host_memory_bytes("MemAvailable")
    return int((device.memory_stats() or {}).get("bytes_limit", 0))


def _measure(config: Config, train: Split, rounds: int, seconds: float) -> dict[str, Any]:
    setup = make_setup(config, len(train.labels))
    seeds = jnp.asarray(config.seeds)
    initial = programs.initial_states(setup, seeds)
    state = devices.replicate(initial)
    data = programs.shard_examples(train)
    run_steps = programs.pmapped_train_steps(setup)
    step = 0

    def epoch() -> None:
        nonlocal state, step
        stop = step + setup.steps_per_epoch
        state = jax.block_until_ready(run_steps(state, seeds, step, stop, *data))
        step = stop

    start = time.perf_counter()
    epoch()
    compile_seconds = time.perf_counter() - start
    rates = []
    for _ in range(rounds):
        before, start = step, time.perf_counter()
        while step == before or time.perf_counter() - start < seconds:
            epoch()
        passed = time.perf_counter() - start
        rates.append((step - before) * len(config.seeds) / passed)
    return {"steps_per_second": rates, "compile_seconds": compile_seconds}
