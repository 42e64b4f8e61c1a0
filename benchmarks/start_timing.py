"""Runs the project's command in processes of its own and times them."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.workers import ROOT
from experiments.cli.errors import RunFailedError, UserError

_POLL_SECONDS = 0.005


class Run(NamedTuple):
    """What one process of the command took.

    Attributes:
        seconds: Time from its start to its end.
        first_step_seconds: Time to the end of the first epoch, less that of all its steps but the
            first. It exceeds the time to the first step by the first validation. None for --help.
        peak_memory_bytes: Its peak resident memory.
        train_seconds: Time of the training steps alone, as the run reports it. None for --help.
    """

    seconds: float
    first_step_seconds: float | None
    peak_memory_bytes: int
    train_seconds: float | None


def data_flags(mnist_path: Path | None) -> list[str]:
    """The flags that tell the command which data to use.

    Raises:
        UserError: There is no such folder.
    """
    if mnist_path is None:
        return ["--dataset=mnist_5k"]
    folder = mnist_path.resolve()
    if not os.path.isdir(folder):
        raise UserError(f"--mnist_path: {folder} is no folder")
    return [f"--mnist_path={folder}"]


def measure(data: list[str], num_epochs: int, rounds: int) -> dict[str, Any]:
    """Measures the help, the start with a cold and a warm cache, the whole run, and all images.

    Args:
        data: Flags of the command.
        num_epochs: Epochs of the whole run.
        rounds: How often to ask for help and to start with a warm cache.

    Returns:
        Lists of `Run` as dictionaries: `help`, `cold`, `warm`, `all_images`; the last is
        empty if not all of MNIST is given.
    """
    with tempfile.TemporaryDirectory() as scratch:

        def train(name: str, *flags: str) -> Run:
            run = _run(Path(scratch), name, [*data, *flags])
            print(
                f"{name}: first step after {run.first_step_seconds:.1f} s, all after "
                f"{run.seconds:.1f} s, {run.peak_memory_bytes / 1e6:.0f} MB",
                flush=True,
            )
            return run

        helps = [_run(Path(scratch), "help", ["--help"]) for _ in range(rounds)]
        print(f"help: {', '.join(f'{run.seconds:.2f} s' for run in helps)}", flush=True)
        # All runs have the same number of epochs, which decides the program and so its cache.
        epochs = f"--num_epochs={num_epochs}"
        found = {
            "help": helps,
            "cold": [train("cold cache, whole run", epochs)],
            "warm": [train(f"warm cache, whole run {turn + 1}", epochs) for turn in range(rounds)],
            "all_images": [],
        }
        if not data[0].startswith("--dataset"):
            flags = "--train_per_class=all", "--num_epochs=1"
            found["all_images"] = [train("all images, one epoch", *flags)]
    return {name: [run._asdict() for run in runs] for name, runs in found.items()}


def _run(scratch: Path, name: str, flags: list[str]) -> Run:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    savedir = folder / "run"
    log = folder / "log"
    own = [] if name == "help" else [f"--savedir={savedir}"]
    start = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.mnist", *flags, *own],
            cwd=ROOT,
            env=_environment(scratch),
            stdout=output,
            stderr=output,
        )
        try:
            first_epoch = None
            while True:
                # This gives the process's own memory, which Popen.wait does not.
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if first_epoch is None and (savedir / "metrics.jsonl").exists():
                    first_epoch = time.perf_counter() - start
                if pid:
                    break
                time.sleep(_POLL_SECONDS)
            seconds = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.kill()
            process.wait()
            raise
    if process.returncode:
        lines = log.read_text(errors="replace").strip().splitlines()
        raise RunFailedError(f"{name} failed: {lines[-1] if lines else 'it said nothing'}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if first_epoch is None:
        return Run(seconds, None, peak, None)
    summary = json.loads((savedir / "summary.json").read_text())
    entry = json.loads((savedir / "metrics.jsonl").read_text().splitlines()[0])
    steps = summary["num_train"] // 100
    waited = entry["seconds"] * (steps - 1) / steps
    return Run(seconds, first_epoch - waited, peak, summary["train_seconds"])


def _environment(scratch: Path) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")
    }
    return {**kept, "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(scratch / "cache")}
