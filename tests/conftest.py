import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

# A line for each of the process's memory mappings, on Linux.
MAPPINGS = Path("/proc/self/maps")


def count_mappings() -> int:
    return MAPPINGS.read_bytes().count(b"\n")


@pytest.fixture(autouse=True)
def _few_mappings() -> Iterator[None]:
    """Each kernel of a CPU program takes some mappings, and Linux allows a process 65,530."""
    yield
    if MAPPINGS.exists() and count_mappings() > 20_000:
        jax.clear_caches()


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_not_ignored() -> None:
    """Restores Ctrl-C, which processes in the background of a script ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
