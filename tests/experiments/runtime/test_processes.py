"""Runs of several processes, which meet on this machine."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.cli.errors import RunFailedError, UserError
from experiments.runtime import agreement, processes
from experiments.runtime.processes import Place
from tests.experiments.numbers import flat, on_devices, on_processes
from tests.experiments.runner import ROOT, Outcome, environment, outcomes, start_processes

COMMAND = "tests.experiments.tiny_command"


def place(flags: tuple[str | None, int | None, int | None]) -> Place | None:
    address, count, number = flags
    return processes.place(address, count, number, {})


class TestPlace:
    @pytest.mark.parametrize(
        "flags", [(None, None, None), (None, 1, None), (None, 1, 0), ("127.0.0.1:1", 1, 0)]
    )
    def test_is_none_where_there_are_no_others(self, flags: Any) -> None:
        assert place(flags) is None

    def test_is_what_the_flags_say(self) -> None:
        found = processes.place("10.0.0.1:8476", 4, 3, {"SLURM_NTASKS": "9"})
        assert found == Place("10.0.0.1:8476", 4, 3)

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ((None, 2, None), "pass --coordinator_address and --process_id too"),
            (("127.0.0.1:1", None, None), "pass --num_processes and --process_id too"),
            ((None, 2, 1), "pass --coordinator_address too"),
            (("127.0.0.1:1", 2, 2), "--process_id=2 is none of --num_processes=2"),
            (("127.0.0.1:1", 1, 1), "--process_id=1 is none of --num_processes=1"),
            (("127.0.0.1", 2, 1), "is not host:port"),
            ((":80", 2, 1), "is not host:port"),
            (("host:", 2, 1), "is not host:port"),
            (("host:70000", 2, 1), "is not host:port"),
        ],
    )
    def test_of_flags_that_do_not_go_together(self, flags: Any, message: str) -> None:
        with pytest.raises(UserError, match=message):
            place(flags)

    @pytest.mark.parametrize(
        ("told", "variables"),
        [
            (True, {"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "node[1-4]"}),
            (False, {"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "node1"}),
            (False, {"SLURM_NTASKS": "4"}),
            (True, {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}),
            (False, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}),
            (True, {"TPU_WORKER_HOSTNAMES": "a,b"}),
            (True, {"TPU_PROCESS_ADDRESSES": "a:1,b:1"}),
            (False, {"TPU_WORKER_HOSTNAMES": "localhost"}),
            (True, {"MEGASCALE_NUM_SLICES": "2"}),
            (False, {}),
        ],
    )
    def test_of_what_starts_it(self, told: bool, variables: dict[str, str]) -> None:
        where = processes.place(None, None, None, variables)
        assert where == (Place() if told else None)
        assert processes.place(None, 1, None, variables) is None


def test_alone_everything_is_agreed() -> None:
    assert processes.is_first()
    assert agreement.agree(7, None) == (7, None)
    assert agreement.agree(7, signal.SIGTERM) == (7, signal.SIGTERM)
    assert agreement.run_on_all(lambda: 3) == 3
    with pytest.raises(UserError, match="mine"):
        agreement.run_on_all(lambda: raise_(UserError("mine")))
    agreement.check_same("flags", "anything")


@pytest.mark.parametrize(
    ("error", "is_failure"),
    [
        (RuntimeError("UNAVAILABLE: connection refused"), True),
        (ValueError("DEADLINE_EXCEEDED: barrier"), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), False),
        (ValueError("INVALID_ARGUMENT: shapes"), False),
        (ValueError("shapes differ"), False),
        (OSError("UNAVAILABLE: device"), False),
    ],
)
def test_a_lost_process_is_told_from_own_errors(
    monkeypatch: pytest.MonkeyPatch, error: Exception, is_failure: bool
) -> None:
    assert not processes.is_peer_failure(error)  # A lone process has none to lose.
    monkeypatch.setattr(processes, "count", lambda: 2)
    assert processes.is_peer_failure(error) == is_failure


def test_what_fails_elsewhere_fails_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "gather", lambda *values: np.array([[0], [0], [1]]))
    with pytest.raises(RunFailedError, match="process 2 cannot go on"):
        agreement.run_on_all(lambda: 3)
    with pytest.raises(UserError, match="have different flags"):
        agreement.check_same("flags", "anything")


def raise_(error: Exception) -> None:
    raise error


@pytest.mark.slow
@pytest.mark.parametrize(("count", "devices"), [(2, 2), (4, 1)])
def test_numbers_are_those_of_one_device(count: int, devices: int, mnist_folder: Path) -> None:
    wanted = on_devices(1, mnist_folder)["dropmax"]
    found = on_processes(count, devices, mnist_folder)["dropmax"]
    np.testing.assert_allclose(flat(found["first step"]), flat(wanted["first step"]), rtol=1e-5)
    np.testing.assert_allclose(flat(found["first epoch"]), flat(wanted["first epoch"]), rtol=1e-4)
    np.testing.assert_allclose(found["logits"], wanted["logits"], atol=1e-3)


def arguments(mnist_folder: Path, savedir: Path, *more: str) -> list[str]:
    return [
        *("--network=tiny", f"--mnist_path={mnist_folder}", "--train_per_class=20"),
        *("--batch_size=8", "--num_epochs=8", "--save_every=1", f"--savedir={savedir}", *more),
    ]


def wait_for_epochs(savedir: Path, count: int) -> None:
    for _ in range(1200):
        if len(metrics_of(savedir)) >= count:
            return
        time.sleep(0.1)
    pytest.fail(f"{savedir} has not come to epoch {count}")


def metrics_of(savedir: Path) -> list[dict[str, Any]]:
    file = savedir / "metrics.jsonl"
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def alone(*arguments: str, devices: int) -> Outcome:
    found = subprocess.run(
        [sys.executable, "-m", COMMAND, *arguments],
        cwd=ROOT,
        env=environment(devices),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Outcome(found.returncode, found.stdout, found.stderr)


@pytest.mark.slow
def test_a_run_goes_on_whatever_befalls_it(mnist_folder: Path, tmp_path: Path) -> None:
    """A run is preempted, left by its first process, and ended by one with two devices."""
    savedir, whole = tmp_path / "run", tmp_path / "whole"
    run_of_two = arguments(mnist_folder, savedir)
    assert alone(*arguments(mnist_folder, whole), devices=1).code == 0

    started = start_processes(COMMAND, 2, *run_of_two)
    wait_for_epochs(savedir, 2)
    started[1].send_signal(signal.SIGTERM)
    first, second = outcomes(started)
    assert (first.code, second.code) == (143, 143)
    assert first.stderr == second.stderr
    stopped = re.fullmatch(r"stopped at step (\d+) of 200; .* pass --resume .*\n", first.stderr)
    assert stopped is not None
    assert (savedir / "checkpoints" / stopped[1]).is_dir()
    # Only the first process prints about the data.
    assert ("data: digits" in first.stdout, "data: " in second.stdout) == (True, False)

    started = start_processes(COMMAND, 2, *run_of_two, "--resume")
    wait_for_epochs(savedir, 5)
    started[0].kill()
    died = time.monotonic()
    _, second = outcomes(started, timeout=60)
    assert time.monotonic() - died < 60
    assert second.code == 1
    told = second.stderr.splitlines()[-1]
    assert told.startswith("error: another process of the run has ended or cannot be reached")
    assert "--resume" in told

    end = alone(*run_of_two, "--resume", devices=2)
    assert end.code == 0, end.stderr
    summaries = [json.loads((one / "summary.json").read_text()) for one in (savedir, whole)]
    assert summaries[0]["test_error_percent"] == summaries[1]["test_error_percent"]
    for found, wanted in zip(metrics_of(savedir), metrics_of(whole), strict=True):
        for name in wanted.keys() - {"seconds"}:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_what_one_process_cannot_do_stops_all(mnist_folder: Path, tmp_path: Path) -> None:
    """The first process finds another program's file."""
    (tmp_path / "config.json").write_text("{}")
    first, second = outcomes(start_processes(COMMAND, 2, *arguments(mnist_folder, tmp_path)))
    assert first.code == 2
    assert re.fullmatch(r"error: .* is not the configuration of a run: .*\n", first.stderr)
    assert second.code == 1
    assert second.stderr == "error: process 0 cannot go on, and says why\n"
