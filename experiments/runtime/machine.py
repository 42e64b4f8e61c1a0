"""The cores and the memory of this machine, or what a container leaves of them."""

import math
import os
from pathlib import Path

_CONTROL_GROUP = Path("/sys/fs/cgroup")


def cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def num_cores() -> int:
    """How many cores this process may keep busy."""
    allowed = len(cores())
    if quota := _limit("cpu.max"):
        # Microseconds of computing in a period of that many.
        computing, period = quota
        allowed = min(allowed, math.ceil(computing / period))
    return allowed


def memory_bytes() -> int:
    """How much memory this process may use, with all others."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([whole, *_limit("memory.max")])


def _limit(name: str) -> list[int]:
    """The numbers in a file of Linux's control group; none if nothing is limited."""
    try:
        return [int(word) for word in (_CONTROL_GROUP / name).read_text().split()]
    except (OSError, ValueError):  # The word of no limit is "max".
        return []
