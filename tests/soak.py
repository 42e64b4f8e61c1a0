"""Trains, kills, damages and resumes at random, and looks whether anything is lost.

`python -m tests.soak --minutes=20`

A small run is trained to its end through faults; then its metrics (but for the seconds), figures
and parameters must be those of a run that nothing disturbed, bit for bit. And again, until the time
is over. The seed decides which faults come and when, but not what a process is doing just then.
Needs Linux, to fill the disk of a process that runs.
"""

import collections
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from experiments.cli import command
from experiments.cli.errors import RunFailedError
from experiments.cli.kinds import POSITIVE_FLOAT, integer
from experiments.data import datasets
from experiments.runtime.files import UNFINISHED
from experiments.train import config
from tests.experiments.fake_mnist import write_mnist

FLAGS = command.Flags()
_MINUTES = FLAGS.define("minutes", 2.0, "how long", POSITIVE_FLOAT)
_SEED = FLAGS.define(
    "seed", None, "of the faults (default: another one each time)", integer(smallest=0)
)

_EPOCHS = 60
_CHECKPOINTS = "checkpoints/*.orbax-checkpoint-tmp*"
_FILES = f"{UNFINISHED}*"
# Seconds in which a process must stop when asked, and more than it needs when not asked.
_STOPS_WITHIN, _ENDS_WITHIN = 10, 300

_processes = multiprocessing.get_context("forkserver")


class LostError(Exception):
    """A fault did what it must not."""


def main() -> None:
    """Runs the soak."""
    seed = _SEED.value if _SEED.value is not None else random.SystemRandom().randrange(2**31)
    print(f"--seed={seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="soak."))
    try:
        soak = Soak(folder, random.Random(seed))
        soak.run(60 * _MINUTES.value)
    except LostError as lost:
        raise RunFailedError(f"LOST, with --seed={seed}: {lost} (see {folder})") from lost
    shutil.rmtree(folder)
    for name, count in sorted(soak.counts.items()):
        print(f"{count:6} {name}")
    print(f"{soak.counts.total()} faults in {soak.num_runs} runs: nothing lost")


class Soak:
    """Runs, and the faults that they have survived.

    Attributes:
        counts: how often each fault was survived.
        num_runs: runs that came to their end.
    """

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.rng, self.folder, self.savedir = rng, folder, folder / "run"
        self.counts: collections.Counter[str] = collections.Counter()
        self.num_runs = 0
        self.damaged: set[str] = set()
        write_mnist(folder / "mnist", train_per_class=120, test_per_class=10)
        os.environ |= {
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            # A killed process cleans nothing up, and this ignores warnings about it.
            "PYTHONWARNINGS": "ignore::UserWarning:multiprocessing.resource_tracker",
        }
        _processes.set_forkserver_preload(
            ["tests.experiments.results", "experiments.reports.plots"]
        )
        # The first run compiles the programs; the second shows how long a run takes otherwise.
        for _ in range(2):
            start = time.monotonic()
            self._end(self._start(), {0})
            self.seconds = time.monotonic() - start
            self.undisturbed = self._numbers()

    def run(self, seconds: float) -> None:
        """Puts runs through faults for this many seconds."""
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            before = self.counts.total()
            while time.monotonic() - start < seconds and not self._is_finished():
                self.rng.choices(self._faults(), [4, 3, 2, 2, 2, 2, 1])[0]()
                if self.rng.random() < 0.4 and not self._is_finished():
                    self._damage()
            self.finish()
            minutes = (time.monotonic() - start) / 60
            print(
                f"{minutes:5.1f} min, run {self.num_runs}: "
                f"{self.counts.total() - before} faults, the same numbers",
                flush=True,
            )

    def finish(self) -> None:
        """Lets the run finish, and raises LostError if its numbers differ."""
        self._end(self._start(), {0})
        numbers = self._numbers()
        if different := [name for name in numbers if numbers[name] != self.undisturbed[name]]:
            raise LostError(f"not as in the undisturbed run: {', '.join(different)}")
        self.num_runs += 1

    def _faults(self) -> list[Callable[[], None]]:
        return [
            self._killed,
            lambda: self._killed("while a checkpoint was written", _CHECKPOINTS),
            lambda: self._killed("while a file was written", _FILES),
            lambda: self._stopped(signal.SIGTERM, {143, -signal.SIGTERM}),
            lambda: self._stopped(signal.SIGINT, {130}),
            self._disk_full,
            self._second_run,
        ]

    # The faults follow. A process that ends before its fault comes has survived none.

    def _killed(self, when: str = "at any moment", pattern: str = "") -> None:
        there_before = set(self.savedir.glob(pattern)) if pattern else set()
        process = self._start_and_wait()
        if pattern:
            while process.is_alive() and not set(self.savedir.glob(pattern)) - there_before:
                time.sleep(0.0005)
            process.join(self.rng.uniform(0, 0.05))
        process.kill()
        self._end(process, {-signal.SIGKILL, 0}, f"SIGKILL {when}")

    def _stopped(self, number: signal.Signals, codes: set[int]) -> None:
        process = self._start_and_wait()
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, number)
            process.join(_STOPS_WITHIN)
            if process.is_alive():
                raise LostError(f"{number.name} does not end it within {_STOPS_WITHIN} seconds")
        self._end(process, {*codes, 0}, number.name)

    def _disk_full(self) -> None:
        process = self._start_and_wait()
        if process.is_alive() and process.pid is not None:
            # Files grow to this size and no further, as on a full disk. The output is smaller.
            size = int(10 ** self.rng.uniform(3.5, 5))
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))
        self._end(process, {1, 0}, "disk full")

    def _second_run(self) -> None:
        first = self._start_and_wait()
        second = self._start("second")
        self._end(second, {2, 0})
        self._end(first, {2, 0})
        if (first.exitcode, second.exitcode) != (0, 0):
            self.counts["second run on one folder"] += 1

    def _damage(self) -> None:
        """Damages the newest checkpoint, if another one is whole."""
        steps = [path for path in self.savedir.glob("checkpoints/*") if path.name.isdecimal()]
        newest = max(steps, key=lambda path: int(path.name), default=None)
        if newest is None or not {path.name for path in steps} - {newest.name} - self.damaged:
            return
        self.damaged.add(newest.name)
        file = self.rng.choice(sorted(path for path in newest.rglob("*") if path.is_file()))
        content = bytearray(file.read_bytes())
        how = self.rng.choice(["truncated", "a file missing", "bytes flipped"])
        if how == "a file missing":
            file.unlink()
        elif how == "truncated":
            file.write_bytes(content[: self.rng.randrange(len(content))])
        else:
            for _ in range(self.rng.randint(1, 8)):
                content[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)
            file.write_bytes(content)
        self.counts[f"newest checkpoint damaged: {how}"] += 1

    # The run.

    def _start_and_wait(self) -> BaseProcess:
        """Starts the command and lets it run for part of the time that it needs to finish."""
        process = self._start()
        process.join(self.rng.uniform(0, 0.5 * self.seconds))
        return process

    def _start(self, name: str = "first") -> BaseProcess:
        """Starts the command, which begins the run or goes on with it."""
        output = self.folder / f"{name}.txt"
        output.unlink(missing_ok=True)
        arguments = [
            "--resume",
            f"--savedir={self.savedir}",
            f"--mnist_path={self.folder / 'mnist'}",
            "--network=tiny",
            "--train_per_class=20",
            "--batch_size=8",
            f"--num_epochs={_EPOCHS}",
            f"--save_every={self.rng.randint(1, 4)}",
        ]
        process = _processes.Process(
            target=run_command, args=(arguments, output), name=name, daemon=True
        )
        process.start()
        while process.is_alive() and not output.exists():
            time.sleep(0.001)
        return process

    def _end(self, process: BaseProcess, codes: set[int], fault: str = "") -> None:
        """Waits for a process to end, and checks how it ends and what it leaves."""
        process.join(_ENDS_WITHIN)
        output = (self.folder / f"{process.name}.txt").read_text()
        code = process.exitcode
        # Python itself reports a KeyboardInterrupt within a finaliser, and goes on.
        is_told = "Traceback" in output and "Exception ignored in" not in output
        if code not in codes or is_told:
            raise LostError(f"exit code {code} after {fault or 'no fault'}: {output}")
        for name in ("config.json", "summary.json", "metrics.jsonl"):
            if (self.savedir / name).exists():
                content = (self.savedir / name).read_text()
                for value in content.splitlines() if name == "metrics.jsonl" else [content]:
                    json.loads(value)
        if fault and code != 0:
            self.counts[fault] += 1

    def _is_finished(self) -> bool:
        return (self.savedir / "summary.json").exists()

    def _numbers(self) -> dict[str, Any]:
        """Returns the finished run's results, and removes the run for the next one."""
        from tests.experiments.results import events_of, numbers_of

        add_tiny()
        unfinished = [
            path for pattern in (_CHECKPOINTS, _FILES) for path in self.savedir.glob(pattern)
        ]
        if unfinished:
            raise LostError(f"left behind: {unfinished}")
        dataset = datasets.load(mnist_path=self.folder / "mnist", train_per_class=20)
        numbers = numbers_of(
            self.savedir, config.read_config(self.savedir / "config.json"), dataset
        )
        events = sorted(events_of(self.savedir)["train_loss"].items())
        shutil.rmtree(self.savedir)
        self.damaged.clear()
        return {**numbers, "events": events}


def run_command(arguments: list[str], output: Path) -> None:
    """Runs the command in this process, with its output in a file."""
    add_tiny()
    # We import late, because it reads which networks exist.
    from experiments import mnist

    with output.open("wb") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    code = command.exit_code(mnist.main, mnist.FLAGS, "", ["mnist", *arguments])
    sys.stdout.flush()
    os._exit(code)


def add_tiny() -> None:
    """Adds the network of the tests, which compiles at once."""
    from experiments.networks import NETWORKS
    from tests.experiments.tiny import Tiny

    config.NETWORK_NAMES.append("tiny")
    networks: dict[str, Any] = NETWORKS
    networks["tiny"] = Tiny


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__ or "")
