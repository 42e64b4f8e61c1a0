"""Which machine and which versions figures belong to."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from experiments.runtime.machine import cores

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "tensorflow", "tensorflow-cpu", "torch")


def describe() -> dict[str, Any]:
    """The processor, its cores, the memory, the load before measuring, and the versions."""
    return {
        "processor": _processor(),
        "cores": len(cores()),
        "memory_gigabytes": round(memory_bytes("MemTotal") / 1e9, 1),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": _versions(),
    }


def describe_aloud() -> dict[str, Any]:
    """Prints and returns `describe`, and warns if the machine is busy."""
    found = describe()
    print(in_words(found), flush=True)
    warn_if_busy(found)
    return found


def in_words(machine: dict[str, Any]) -> str:
    """One line that names the machine, for a table."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gigabytes']} GB of "
        f"memory; Python {machine['python']}, {versions}; load average before: "
        f"{machine['load_average']}"
    )


def warn_if_busy(machine: dict[str, Any]) -> None:
    """Warns if other programs use the processor, because then no figure is right."""
    load = machine["load_average"]
    if load is not None and load > 0.3:
        print(f"note: the load average is {load}: other programs disturb the figures", flush=True)


def memory_bytes(name: str) -> int:
    """A line of /proc/meminfo, such as MemAvailable, in bytes; 0 if there is no such file."""
    return _kilobytes(Path("/proc/meminfo"), name) * 1024


def peak_memory_bytes() -> int:
    """The peak resident memory of this process.

    It counts this program only; getrusage also counts the process that started it.
    """
    peak = _kilobytes(Path("/proc/self/status"), "VmHWM") * 1024
    if peak:
        return peak
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _kilobytes(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
