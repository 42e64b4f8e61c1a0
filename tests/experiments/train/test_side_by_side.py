"""Runs that train side by side: the same numbers, and no process or state that is lost."""

import dataclasses
import functools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from experiments.cli.errors import RunFailedError, UserError
from experiments.cli.stopping import Stopped
from experiments.data.datasets import Dataset
from experiments.runtime import machine
from experiments.runtime.files import locked_folder
from experiments.train import run, side_by_side
from experiments.train.side_by_side import Planned
from tests.experiments.conftest import MakeConfig
from tests.experiments.results import metrics_of, newest, numbers_of
from tests.experiments.runner import ROOT, environment

Plan = Callable[..., Planned]


@pytest.fixture(autouse=True)
def _tiny_workers(monkeypatch: pytest.MonkeyPatch, in_tmp_path: Path) -> None:
    monkeypatch.setattr(side_by_side, "_WORKER", "tests.experiments.tiny_worker")
    # There may be one core only.
    cores = (sorted(os.sched_getaffinity(0)) * 2)[:2]
    monkeypatch.setattr(machine, "cores", lambda: cores)


@pytest.fixture
def plan(small_config: MakeConfig, small_data: Dataset, tmp_path: Path) -> Plan:
    def make(model: str, **settings: object) -> Planned:
        config = small_config(model, **{"batch_size": 20, "num_epochs": 2, **settings})
        return Planned(config, small_data, tmp_path / model)

    return make


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes, as they are started."""
    start, found = side_by_side._start, list[subprocess.Popen[bytes]]()

    def recording_start() -> subprocess.Popen[bytes]:
        found.append(start())
        return found[-1]

    monkeypatch.setattr(side_by_side, "_start", recording_start)
    return found


def test_the_same_numbers_as_one_after_the_other(plan: Plan, tmp_path: Path) -> None:
    planned = [plan("softmax"), plan("dropmax", seeds=(3, 4))]
    with side_by_side.training(planned, 2) as train:
        summaries = [train(*each) for each in planned]
    for each, summary in zip(planned, summaries, strict=True):
        alone = tmp_path / "alone" / each.config.model
        wanted = run.train(each.config, each.data, alone)
        assert summary["test_nll"] == wanted["test_nll"]
        numbers = numbers_of(each.folder, each.config, each.data)
        assert numbers == numbers_of(alone, each.config, each.data)


def test_a_finished_run_needs_no_process(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = [plan("softmax"), plan("sparsemax")]
    run.train(*planned[0])
    monkeypatch.setattr(side_by_side, "_Workers", None)
    with side_by_side.training(planned, 2) as train:
        assert train is run.train_missing


def test_each_run_ends_for_itself(
    plan: Plan, started: list[subprocess.Popen[bytes]], capfd: pytest.CaptureFixture[str]
) -> None:
    planned = [
        plan("softmax", learning_rate=1e38),
        plan("sparsemax", num_epochs=100_000),
        plan("dropmax"),
        plan("mc_dropout"),
    ]
    run.train(*planned[2])
    other = dataclasses.replace(planned[2].config, num_epochs=4)
    planned[2] = planned[2]._replace(config=other)
    with side_by_side.training(planned, 2) as train:
        with pytest.raises(RunFailedError, match="^the loss is not finite: epoch 1"):
            train(*planned[0])
        with pytest.raises(UserError, match="num_epochs is 2, not 4"):
            train(*planned[2])
        assert train(*planned[3])["model"] == "mc_dropout"
        (running,) = [process for process in started if process.poll() is None]
        running.kill()
        with pytest.raises(RunFailedError, match=r"/sparsemax was ended by signal 9.*--jobs=1"):
            train(*planned[1])
    assert "the loss is not finite" in capfd.readouterr().err


def test_a_signal_stops_all_and_the_same_command_goes_on(
    plan: Plan, started: list[subprocess.Popen[bytes]]
) -> None:
    planned = [plan("softmax", num_epochs=100_000), plan("dropmax", num_epochs=100_000)]

    def interrupt() -> None:
        for each in planned:
            wait_for(each.folder / "metrics.jsonl")
        # A batch system's signal to all processes of a job.
        for process in started:
            process.terminate()
        os.kill(os.getpid(), signal.SIGTERM)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with (
        pytest.raises(Stopped, match="run the same command again") as stopped,
        side_by_side.training(planned, 2) as train,
    ):
        train(*planned[0])
    interrupting.join()
    assert stopped.value.exit_code == 143
    for each in planned:
        # It has ended, and saved the state after its last whole epoch or later.
        with locked_folder(each.folder):
            step = newest(each.folder, each.config, each.data).step
            assert step // 10 == len(metrics_of(each.folder)) > 0


def test_processes_end_with_the_one_that_started_them(plan: Plan, tmp_path: Path) -> None:
    planned = [plan("softmax", num_epochs=100_000), plan("dropmax", num_epochs=100_000)]
    (tmp_path / "planned").write_bytes(pickle.dumps(planned))
    code = f"""
import pickle
from experiments.runtime import machine
from experiments.train import side_by_side
side_by_side._WORKER = "tests.experiments.tiny_worker"
machine.cores = lambda: {machine.cores()}
planned = pickle.load(open({str(tmp_path / "planned")!r}, "rb"))
with side_by_side.training(planned, 2) as train:
    train(*planned[0])
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment(1))
    for each in planned:
        wait_for(each.folder / "metrics.jsonl")
    process.kill()
    process.wait()
    for each in planned:
        wait_until(functools.partial(is_free, each.folder))
        assert any((each.folder / "checkpoints").iterdir())


def test_more_than_a_cpu_trains_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert side_by_side.number_of_jobs(2) == 2
    assert side_by_side.number_of_jobs(1000) == 2
    assert 1 <= side_by_side.number_of_jobs(None) <= 2
    for name, value in (("device_count", 2), ("default_backend", "gpu")):
        with monkeypatch.context() as patch:
            patch.setattr(jax, name, lambda value=value: value)
            assert side_by_side.number_of_jobs(None) == 1
            assert side_by_side.number_of_jobs(1) == 1
            with pytest.raises(UserError, match="--jobs=2 needs a CPU"):
                side_by_side.number_of_jobs(2)


def test_a_container_has_fewer_cores_and_less_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "_CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(machine, "cores", lambda: list(range(64)))
    monkeypatch.setattr(os, "sysconf", lambda name: 2**20)
    assert side_by_side.number_of_jobs(None) == 64
    for cpu, memory, jobs in (
        ("max 100000", "max", 64),
        ("250000 100000", "max", 3),
        ("max 100000", str(5 * 2**30), 2),
        ("50000 100000", str(2**30), 1),
    ):
        (tmp_path / "cpu.max").write_text(f"{cpu}\n")
        (tmp_path / "memory.max").write_text(f"{memory}\n")
        assert side_by_side.number_of_jobs(None) == jobs
        assert side_by_side.number_of_jobs(9) == 9


def test_a_process_that_ends_at_once_is_told(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_WORKER", "tests.experiments.no_such_worker")
    planned = [plan("softmax"), plan("dropmax")]
    with side_by_side.training(planned, 2) as train:
        for each in planned:
            with pytest.raises(RunFailedError, match="no_such_worker"):
                train(*each)


def wait_for(file: Path) -> None:
    wait_until(file.exists)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_free(folder: Path) -> bool:
    try:
        with locked_folder(folder):
            return True
    except UserError:
        return False
