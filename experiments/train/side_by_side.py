"""Runs that train side by side, each in a process of its own: for commands that train many.

One run does not keep many cores busy. On two cores, two LeNets on one core each make a quarter more
steps a second than one on both, and imports and compilation need one core anyway.
"""

import concurrent.futures
import contextlib
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from experiments.cli import command
from experiments.cli.errors import RunFailedError, UserError
from experiments.cli.stopping import Stopped, stop_request
from experiments.data import stream
from experiments.data.datasets import Dataset
from experiments.runtime import machine
from experiments.train import run
from experiments.train.config import Config
from experiments.train.folder import finished_summary

_WORKER = "experiments.train.side_by_side"
_BYTES_A_RUN = 2**31
# A batch system may send SIGTERM to all processes, of which a second would end one at once.
_STOP = getattr(signal, "SIGUSR1", signal.SIGTERM)
_ERROR = "error: "
_SECONDS_BETWEEN_LOOKS = 0.2

Train = Callable[[Config, Dataset, Path], dict[str, Any]]
"""`run.train_missing`, or what does the same."""


class Planned(NamedTuple):
    """A run to train: the arguments of `run.train_missing`."""

    config: Config
    data: Dataset
    folder: Path


@contextlib.contextmanager
def training(planned: Sequence[Planned], jobs: int | None) -> Iterator[Train]:
    """Trains runs in the background, in their order, until the end of the block.

    Args:
        planned: The runs; those that are finished are left alone.
        jobs: How many train at once, each on its own share of the cores; None for one a core, if
            the memory suffices.

    Yields:
        A `run.train_missing` that waits for a planned run.

    Raises:
        UserError: There is to be more than one at a time, and JAX uses more than a CPU.
    """
    missing = [each for each in planned if finished_summary(each.folder, each.config) is None]
    jobs = min(number_of_jobs(jobs), len(missing))
    if jobs <= 1:
        yield run.train_missing
        return
    workers = _Workers(jobs)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        ends = {each.folder: pool.submit(workers.train, each) for each in missing}

        def train(config: Config, data: Dataset, folder: Path) -> dict[str, Any]:
            if folder in ends:
                _wait_for(ends[folder])
            return run.train_missing(config, data, folder)

        try:
            yield train
        finally:
            for end in ends.values():
                end.cancel()
            workers.stop()


def number_of_jobs(asked: int | None) -> int:
    """How many runs may train at once; None asks for as many as cores and memory allow.

    Raises:
        UserError: More than one is asked for, and JAX uses more than a CPU.
    """
    has_one_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
    if not has_one_cpu:
        if (asked or 1) > 1:
            raise UserError(f"--jobs={asked} needs a CPU as JAX's only device")
        return 1
    if asked is not None:
        return min(asked, len(machine.cores()))
    return max(1, min(machine.memory_bytes() // _BYTES_A_RUN, machine.num_cores()))


def _wait_for(end: concurrent.futures.Future[None]) -> None:
    with stop_request() as request:
        while not end.done():
            concurrent.futures.wait([end], _SECONDS_BETWEEN_LOOKS)
            if request.signal_number is not None:
                raise Stopped(
                    request.signal_number,
                    "stopped; the states are saved: run the same command again to go on",
                )
    end.result()


class _Workers:
    """Processes that train, each on its own share of the cores."""

    def __init__(self, jobs: int) -> None:
        self._free: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        for number in range(jobs):
            self._free.put(machine.cores()[number::jobs])
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def train(self, planned: Planned) -> None:
        """Trains a run in a new process, and passes on what that says; raises as `run.train`."""
        cores = self._free.get()
        try:
            with self._lock:
                if self._stopped:
                    return
                process = _start()
                self._running.add(process)
            try:
                with process:
                    reason = _follow(process, cores, planned)
            finally:
                with self._lock:
                    self._running.remove(process)
        finally:
            self._free.put(cores)
        _check(process.returncode, reason, planned.folder)

    def stop(self) -> None:
        """Lets the processes save their states and end."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.send_signal(_STOP)


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # It imports from where this process does, whatever the current folder.
        [sys.executable, "-P", "-m", _WORKER],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # Ctrl-C is for the process that started it, which stops it in turn.
        start_new_session=True,
    )


def _follow(process: subprocess.Popen[bytes], cores: Sequence[int], planned: Planned) -> str:
    """Gives a process its task, and prints what it says to the end; returns its error, if any."""
    assert process.stdin is not None
    assert process.stderr is not None
    config, data, folder = planned
    task = {"cores": cores, "config": config.to_json(), "folder": str(folder)}
    try:
        process.stdin.write(json.dumps(task).encode() + b"\n")
        stream.write(data, process.stdin)
        process.stdin.flush()
    except BrokenPipeError:  # It has ended, and may say why.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    reason = ""
    with io.TextIOWrapper(process.stderr, errors="replace") as said:
        for line in said:
            # Runs of one network and method may differ by their folders alone.
            print(
                f"{folder.parent.name}/{folder.name}: {line}", end="", file=sys.stderr, flush=True
            )
            if line.startswith(_ERROR) or not reason.startswith(_ERROR):
                reason = line.strip()
    return reason


def _check(code: int, reason: str, folder: Path) -> None:
    """Raises what made a process end with a code."""
    if code < 0:
        raise RunFailedError(
            f"the process that trained {folder} was ended by signal {-code}, perhaps for lack of "
            "memory: --jobs=1 needs the least"
        )
    if code:
        kind = UserError if code == 2 else RunFailedError
        raise kind(reason.removeprefix(_ERROR) or f"the process that trained {folder} has failed")


def main() -> None:
    """Trains the run that the process which started this one sends."""
    task = json.loads(sys.stdin.buffer.readline())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, task["cores"])
    data = stream.read(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    command.set_up_jax()
    run.train_missing(Config.from_json(task["config"]), data, Path(task["folder"]))


def _end_with_parent() -> None:
    """Asks this process to stop when the one that started it has ended."""
    # A read of `sys.stdin` would hold a lock that Python wants when it ends.
    os.read(sys.stdin.fileno(), 1)
    # Nobody reads what it says.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    os.kill(os.getpid(), _STOP)


if __name__ == "__main__":
    command.run(main, command.Flags(), __doc__)
