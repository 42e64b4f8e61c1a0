"""Agreement between the processes of one run.

All of them call the same functions in the same order. A run of one process agrees with itself at
once.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from experiments.cli.errors import RunFailedError, UserError
from experiments.runtime import processes

T = TypeVar("T")


def gather(*values: int) -> np.ndarray:
    """The values, each below 2**32, of every process: `[processes, values]`."""
    row = np.asarray(values, np.uint32)
    if processes.count() == 1:
        return row[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(row))


def agree(num_steps: int, signal_number: int | None) -> tuple[int, int | None]:
    """How many steps to take next, as process 0 says, and which signal any process has got."""
    if processes.count() == 1:
        return num_steps, signal_number
    table = gather(num_steps, signal_number or 0)
    return int(table[0, 0]), int(table[:, 1].max()) or None


def run_on_all(action: Callable[[], T]) -> T:
    """Runs an action on all processes; if it fails on one, it fails on all.

    Returns:
        What the action returned here.

    Raises:
        RunFailedError: It failed on another process, which prints the reason.
        Exception: What the action raised here.
    """
    try:
        result = action()
    except Exception:
        gather(1)
        raise
    failed = np.flatnonzero(gather(0)[:, 0])
    if len(failed):
        raise RunFailedError(f"process {failed[0]} cannot go on, and says why")
    return result


def run_on_first(action: Callable[[], None]) -> None:
    """Runs an action on process 0 alone; if it fails there, it fails on all."""
    run_on_all(lambda: action() if processes.is_first() else None)


@contextlib.contextmanager
def hold_on_first(make: Callable[[], contextlib.AbstractContextManager[None]]) -> Iterator[None]:
    """A context that only process 0 enters, such as that of a lock."""
    with contextlib.ExitStack() as stack:
        run_on_first(lambda: stack.enter_context(make()))
        yield


def check_same(what: str, text: str) -> None:
    """Raises `UserError` unless the text is the same at all processes."""
    digest = hashlib.sha256(text.encode()).digest()[:4]
    if len(np.unique(gather(int.from_bytes(digest)))) > 1:
        raise UserError(f"the processes of the run have different {what}: give all the same")
