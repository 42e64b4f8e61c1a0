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
    """Each kernel of a program on CPU takes some mappings, and Linux has 65,530 for a process."""
    yield
    if MAPPINGS.exists() and count_mappings() > 20_000:
        jax.clear_caches()


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_not_ignored() -> None:
    """As it is in all processes that are started in the background of a script."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
