"""Starts the processes that hold the trainers, and asks them in turn."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS, is_installed
from experiments.cli.errors import RunFailedError

ROOT = Path(__file__).parents[1]
# We wait before a turn, because the previous worker's threads may still spin.
SETTLE_SECONDS = 0.3

Ask = Callable[..., dict[str, Any]]
"""Sends a request by its name, with its arguments, and waits for the answer."""


def installed(names: Sequence[str]) -> list[str]:
    """Returns the named peers whose packages are installed; says which are not."""
    found = []
    for name in dict.fromkeys(names):
        if is_installed(name):
            found.append(name)
        else:
            print(
                f"left out: {name}, for the package {PEERS[name].needs} is not installed "
                "(pip install -r benchmarks/requirements.txt)",
                flush=True,
            )
    return found


@contextlib.contextmanager
def worker(peer: str, inputs: Path) -> Iterator[Ask]:
    """Runs a peer in a process of its own until the end of the block.

    Args:
        peer: A name of `PEERS`.
        inputs: The file that `recipe.write_inputs` wrote. The process's other output and its
            compiled programs go into the same folder.

    Raises:
        RunFailedError: The process failed, at the start or at a request.
    """
    log = inputs.parent / f"{peer}.log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", peer, str(inputs)],
            env=_environment(inputs.parent),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):

        def answer() -> dict[str, Any]:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RunFailedError(f"{peer} failed: {_last_line(log)}")
            return dict(json.loads(line))

        def ask(request: str, **arguments: Any) -> dict[str, Any]:
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps({"request": request, **arguments}) + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                raise RunFailedError(f"{peer} failed: {_last_line(log)}") from None
            return answer()

        try:
            answer()
            yield ask
        finally:
            process.kill()


def _environment(scratch: Path) -> dict[str, str]:
    """Makes all use the CPU and compile anew, since cached programs have no time to measure."""
    python_path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *([python_path] if python_path else [])]),
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
    }


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")
