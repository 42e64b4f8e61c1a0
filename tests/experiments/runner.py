"""Runs the experiment command, in this process or in one of its own."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from absl.testing import flagsaver

from experiments import mnist
from experiments.cli import command

ROOT = Path(__file__).parents[2]


class Outcome(NamedTuple):
    code: int
    stdout: str
    stderr: str


Runner = Callable[..., Outcome]


def run_here(
    capfd: pytest.CaptureFixture[str], *arguments: str, module: ModuleType = mnist
) -> Outcome:
    """Runs a command in this process, with the flags it would have in its own."""
    capfd.readouterr()
    own: command.Flags = module.FLAGS
    before = flagsaver.save_flag_values(own.values)
    try:
        code = command.exit_code(module.main, own, module.__doc__ or "", ["command", *arguments])
    finally:
        flagsaver.restore_flag_values(before, own.values)
    return Outcome(code, *capfd.readouterr())


def start(*arguments: str, devices: int = 1, cwd: Path = ROOT) -> "subprocess.Popen[str]":
    """Starts the command, with the network `tiny` too, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.experiments.tiny_command", *arguments],
        cwd=cwd,
        env=environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_processes(
    module: str, count: int, *arguments: str, devices: int = 1
) -> "list[subprocess.Popen[str]]":
    """Starts a module in processes of one run, which meet on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", module, *arguments),
                *(f"--coordinator_address={address}", f"--num_processes={count}"),
                f"--process_id={number}",
            ],
            cwd=ROOT,
            env=environment(devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def outcomes(processes: "list[subprocess.Popen[str]]", timeout: float = 120) -> list[Outcome]:
    """Waits for all to end; kills what is left if that takes too long."""
    try:
        written = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        Outcome(process.returncode, *text) for process, text in zip(processes, written, strict=True)
    ]


def run_apart(*arguments: str, devices: int = 1, cwd: Path = ROOT) -> Outcome:
    """Runs the command in a process of its own."""
    with start(*arguments, devices=devices, cwd=cwd) as process:
        stdout, stderr = process.communicate(timeout=120)
    return Outcome(process.returncode, stdout, stderr)


# Each takes longer to import than help may take.
_SLOW = {"flax", "jax", "matplotlib", "orbax", "tensorflow", "tensorflow_datasets", "torch"}


def help_at_once(module: str, flag: str = "--help") -> str:
    """What a command's help prints; it must import nothing slow."""
    done = subprocess.run(
        # Python lists its imports on stderr.
        [sys.executable, "-X", "importtime", "-m", module, flag],
        cwd=ROOT,
        env={**environment(1), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 0
    assert all(line.startswith("import time:") for line in lines), done.stderr
    imported = {line.rpartition("|")[2].strip() for line in lines}
    assert "absl.flags" in imported
    assert not imported & _SLOW
    return done.stdout


def environment(devices: int) -> dict[str, str]:
    """Variables for a process that sees this many virtual CPU devices."""
    xla_flags = os.environ.get("XLA_FLAGS", "")
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        # Programs compiled with the same options as here give the same bits.
        "XLA_FLAGS": f"{xla_flags} --xla_force_host_platform_device_count={devices}",
    }


def files_under(folder: Path) -> dict[str, bytes]:
    """Every file and folder there with its content, except the lock, which is empty."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"<folder>"
        for path in folder.rglob("*")
        if path.name != ".lock"
    }


def numbers_on(devices: int, module: str, *arguments: str) -> dict[str, Any]:
    """The JSON that a module prints in a process with this many devices."""
    process = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment(devices),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    numbers: dict[str, Any] = json.loads(process.stdout)
    assert numbers["devices"] == devices
    return numbers
