import dataclasses
import os
import pkgutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.cli.stopping import Stopped
from experiments.data.datasets import Dataset
from experiments.train import run
from experiments.train.config import Config, read_config
from experiments.train.steps import programs
from experiments.train.steps.setup import Setup
from tests.experiments import runner
from tests.experiments.results import assert_no_leftovers, events_of, metrics_of, newest, numbers_of
from tests.experiments.stopping import stopping_at_look
from tests.experiments.train.conftest import STEPS_PER_EPOCH


def stopped_step(stopped: Stopped) -> int:
    return int(str(stopped).split()[3])


class TestInterrupted:
    def test_resumed_runs_give_the_same_bits(
        self,
        dropmax_config: Config,
        dropmax_run: Path,
        small_data: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Runs stop within epochs, at their ends, right after a start and right before the end."""
        steps = []
        for look in (1, 4, 2, 3, 1, 7, 1, 4):
            with stopping_at_look(monkeypatch, look), pytest.raises(Stopped) as caught:
                run.train(dropmax_config, small_data, tmp_path, save_every=2, resume=True)
            assert caught.value.exit_code == 143
            assert "--resume" in str(caught.value)
            assert str(tmp_path) in str(caught.value)
            steps.append(stopped_step(caught.value))
            assert not (tmp_path / "summary.json").exists()
        assert steps == [10, 23, 26, 38, 48, 56, 66, 78]
        with stopping_at_look(monkeypatch, 3), pytest.raises(Stopped):
            run.train(dropmax_config, small_data, tmp_path, save_every=2, resume=True)
        run.train(dropmax_config, small_data, tmp_path, save_every=2, resume=True)
        assert numbers_of(tmp_path, dropmax_config, small_data) == numbers_of(
            dropmax_run, dropmax_config, small_data
        )
        assert set(events_of(tmp_path)["train_loss"]) == {1, 2, 3, 4}
        assert_no_leftovers(tmp_path)

    @pytest.mark.parametrize("look", [16, 17, 41, 91, 92])
    def test_one_stop_one_resumption(
        self,
        dropmax_config: Config,
        dropmax_run: Path,
        small_data: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        look: int,
    ) -> None:
        """Stops at step 25 (an epoch's end), 26, 50 (a checkpoint's), 100 unsaved and 100 saved."""
        step = min(100, look + 9)
        with stopping_at_look(monkeypatch, look):
            with pytest.raises(Stopped, match=f"step {step} of 100"):
                run.train(dropmax_config, small_data, tmp_path, save_every=2)
            checkpoints = {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}
            assert max(checkpoints) == step
            assert not (tmp_path / "summary.json").exists()
        run.train(dropmax_config, small_data, tmp_path, save_every=2, resume=True)
        assert numbers_of(tmp_path, dropmax_config, small_data) == numbers_of(
            dropmax_run, dropmax_config, small_data
        )
        assert events_of(tmp_path).keys() == events_of(dropmax_run).keys()
        assert set(events_of(tmp_path)["train_loss"]) == {1, 2, 3, 4}

    def test_a_signal_while_programs_compile_stops_the_first_steps(
        self,
        dropmax_config: Config,
        small_data: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        compiling = programs.pmapped_train_steps

        def interrupted(setup: Setup) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            return compiling(setup)

        monkeypatch.setattr(programs, "pmapped_train_steps", interrupted)
        with pytest.raises(Stopped) as caught:
            run.train(dropmax_config, small_data, tmp_path)
        assert caught.value.exit_code == 130
        assert stopped_step(caught.value) == 10

    @pytest.mark.slow
    def test_signals_to_a_process_stop_it_with_its_state_saved(
        self, finished_run: Path, small_data: Dataset, tmp_path: Path
    ) -> None:
        """The run resumes after each signal, and the last time it goes to the end."""
        folder, epochs = tmp_path / "run", 24
        config = dataclasses.replace(
            read_config(finished_run / "config.json"), num_epochs=epochs, seeds=(0,)
        )
        arguments = [
            f"--savedir={folder}",
            f"--mnist_path={config.mnist_path}",
            "--model=softmax",
            "--network=tiny",
            "--train_per_class=20",
            "--batch_size=8",
            f"--num_epochs={epochs}",
            "--save_every=1",
        ]
        done = 0
        for number, code in (
            (signal.SIGTERM, 143),
            (signal.SIGINT, 130),
            (signal.SIGHUP, 129),
            (signal.SIGUSR1, 138),
            (signal.SIGKILL, -signal.SIGKILL),
        ):
            with runner.start(*arguments, *(["--resume"] if done else [])) as process:
                wait_for_epoch(folder, done + 1, process.poll)
                sent = time.monotonic()
                process.send_signal(number)
                _, stderr = process.communicate(timeout=60)
            assert process.returncode == code
            assert time.monotonic() - sent < 10
            assert not (folder / "summary.json").exists()
            done = len(metrics_of(folder))
            assert done < epochs
            if number == signal.SIGKILL:
                break
            step = newest(folder, config, small_data).step
            assert stderr == (
                f"stopped at step {step} of {epochs * STEPS_PER_EPOCH}; the state is saved in "
                f"{folder}: pass --resume to go on\n"
            )
        # This process trains: the lock of the killed process is not left behind.
        run.train(config, small_data, folder, resume=True)
        run.train(config, small_data, tmp_path / "uninterrupted")
        assert numbers_of(folder, config, small_data) == numbers_of(
            tmp_path / "uninterrupted", config, small_data
        )


def wait_for_epoch(folder: Path, epoch: int, code: Callable[[], int | None]) -> None:
    file, deadline = folder / "metrics.jsonl", time.monotonic() + 100
    while not (file.exists() and len(file.read_text().splitlines()) >= epoch):
        assert code() is None, "it ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.002)


class TestKilledBetweenTwoWrites:
    """An exception at any of the writes stands for a kill there."""

    @pytest.mark.parametrize(
        "where",
        [
            "experiments.train.loop.write_text",
            "experiments.train.checkpoints.Checkpoints.save",
            "experiments.train.checkpoints.write_json",
            "experiments.train.tensorboard.write_events",
            "experiments.reports.plots.learning_curves",
            "experiments.train.summary.write_json",
        ],
    )
    def test_resuming_makes_up_for_it(
        self,
        dropmax_config: Config,
        dropmax_run: Path,
        small_data: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        where: str,
    ) -> None:
        class Killed(BaseException):
            pass

        original, calls = pkgutil.resolve_name(where), 0
        # A run plots and summarises only once, at its end.
        fatal_call = 1 if where.endswith(("learning_curves", "summary.write_json")) else 2

        def killed(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == fatal_call:
                raise Killed
            return original(*arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(where, killed)
            with pytest.raises(Killed):
                run.train(dropmax_config, small_data, tmp_path, save_every=1)
        run.train(dropmax_config, small_data, tmp_path, save_every=1, resume=True)
        assert numbers_of(tmp_path, dropmax_config, small_data) == numbers_of(
            dropmax_run, dropmax_config, small_data
        )
        assert set(events_of(tmp_path)["train_loss"]) == {1, 2, 3, 4}
        assert (tmp_path / "learning_curves.png").exists()
