import contextlib
import dataclasses
import json
import os
import pkgutil
import re
import resource
import shutil
import signal
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cli.errors import RunFailedError, UserError
from experiments.cli.stopping import Stopped
from experiments.data.datasets import Dataset
from experiments.runtime import devices
from experiments.runtime.files import locked_folder
from experiments.train import evaluation, loop, run
from experiments.train.config import Config, read_config
from experiments.train.folder import check_folder, remove_run
from experiments.train.steps import programs, training
from experiments.train.steps.setup import Setup, make_setup
from experiments.train.summary import result_line
from tests.conftest import MAPPINGS, count_mappings
from tests.experiments import runner
from tests.experiments.conftest import MakeConfig
from tests.experiments.results import events_of, metrics_of, newest, numbers_of, summary_of
from tests.experiments.stopping import stopping_at_look
from tests.experiments.tiny import Steps

STEPS_PER_EPOCH = 25


@pytest.fixture(scope="session")
def dropmax_config(small_config: MakeConfig) -> Config:
    return small_config("dropmax", batch_size=8, num_epochs=4)


@pytest.fixture(scope="session")
def dropmax_run(
    dropmax_config: Config, small_data: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run that nothing interrupted; do not change it."""
    folder = tmp_path_factory.mktemp("dropmax") / "run"
    run.train(dropmax_config, small_data, folder, save_every=1)
    return folder


def png_pixels(path: Path) -> np.ndarray:
    """The bytes of the rows of a PNG, each with its filter's number in front."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    place, packed = 8, b""
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        if content[place + 4 : place + 8] == b"IDAT":
            packed += content[place + 8 : place + 8 + length]
        place += length + 12
    pixels = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    assert pixels.shape[1] > 3 * width
    return pixels


METRICS_KEYS = {
    "epoch",
    "train_loss",
    "train_error_percent",
    "validation_error_percent",
    "seconds",
}
TERMS = {
    "softmax": {"cross_entropy"},
    "dropmax": {"cross_entropy", "kl_divergence", "label_regression", "prior_negative_entropy"},
}


class TestFiles:
    @pytest.fixture(params=["finished_run", "dropmax_run"])
    def folder(self, request: pytest.FixtureRequest) -> Path:
        folder: Path = request.getfixturevalue(request.param)
        return folder

    def test_are_those_of_the_design(self, folder: Path) -> None:
        names = {path.name for path in folder.iterdir()}
        events = {name for name in names if name.startswith("events.out.tfevents.")}
        assert events
        assert names - events - {".lock"} == {
            "config.json",
            "metrics.jsonl",
            "summary.json",
            "checkpoints",
            "learning_curves.png",
        }

    def test_config_is_the_configuration(
        self, folder: Path, dropmax_run: Path, dropmax_config: Config
    ) -> None:
        content = json.loads((folder / "config.json").read_text())
        names = {field.name for field in dataclasses.fields(Config)}
        assert set(content) == names - {"hyperparameters"} | {"settings"}
        assert read_config(dropmax_run / "config.json") == dropmax_config

    def test_metrics_have_a_line_an_epoch(self, folder: Path) -> None:
        config, entries = read_config(folder / "config.json"), metrics_of(folder)
        terms, seeds = TERMS[config.model], len(config.seeds)
        assert [entry["epoch"] for entry in entries] == list(range(1, config.num_epochs + 1))
        for entry in entries:
            assert set(entry) == METRICS_KEYS | terms
            assert entry["seconds"] > 0
            for name in set(entry) - {"epoch", "seconds"}:
                values = entry[name]
                # A number for one seed, a list for several.
                assert isinstance(values, float) if seeds == 1 else len(values) == seeds
                assert np.all(np.isfinite(values))
            np.testing.assert_allclose(
                entry["train_loss"], sum(np.array(entry[term]) for term in terms), rtol=1e-5
            )

    def test_errors_are_parts_of_the_images(self, folder: Path, small_data: Dataset) -> None:
        """Errors are percentages of the 200 seen in an epoch, and of the 1,000 checked after it."""
        config, entries = read_config(folder / "config.json"), metrics_of(folder)
        for entry in entries:
            errors = np.array(entry["train_error_percent"]) * 2
            np.testing.assert_allclose(errors, errors.round(), atol=1e-3)
        assert np.all(np.array(entries[0]["train_error_percent"]) > 20)
        setup = make_setup(config, 200)
        validation = small_data.validation
        (figures,), _ = evaluation.evaluate(
            setup,
            newest(folder, config, small_data).state.params,
            np.asarray(config.seeds, np.int32),
            validation,
            validation,
        )
        found = np.atleast_1d(entries[-1]["validation_error_percent"])
        np.testing.assert_allclose(found, figures.error_percent, rtol=1e-5)

    def test_summary_has_what_was_promised(self, folder: Path) -> None:
        config, summary = read_config(folder / "config.json"), summary_of(folder)
        lists = {"test_error_percent", "test_nll", "test_ece_percent", "test_brier"}
        assert set(summary) == lists | {
            "model",
            "network",
            "dataset",
            "num_train",
            "num_test",
            "seeds",
            "train_seconds",
            "compile_seconds",
            "steps_per_second",
            "device",
            "versions",
        }
        assert (summary["model"], summary["network"]) == (config.model, "tiny")
        assert (summary["dataset"], summary["num_train"]) == ("digits", 200)
        assert (summary["num_test"], summary["seeds"]) == (200, list(config.seeds))
        for name in lists:
            assert len(summary[name]) == len(config.seeds)
            assert np.all(np.isfinite(summary[name]))
        steps = config.num_epochs * STEPS_PER_EPOCH * len(config.seeds)
        # Both are rounded, the seconds to a thousandth.
        seconds = steps / summary["steps_per_second"]
        np.testing.assert_allclose(seconds, summary["train_seconds"], atol=1e-3)
        assert summary["compile_seconds"] > 0
        assert summary["versions"]["jax"] == jax.__version__
        assert summary["device"] == "1 x cpu"

    def test_checkpoints_are_the_newest_three(self, folder: Path) -> None:
        last = read_config(folder / "config.json").num_epochs * STEPS_PER_EPOCH
        steps = {int(path.name) for path in (folder / "checkpoints").iterdir()}
        assert steps == {last, last - STEPS_PER_EPOCH, last - 2 * STEPS_PER_EPOCH}

    def test_picture_shows_curves(self, folder: Path) -> None:
        pixels = png_pixels(folder / "learning_curves.png")
        assert pixels.shape[0] > 300
        assert len(np.unique(pixels)) > 20

    def test_tensorboard_reads_the_metrics_back(self, folder: Path) -> None:
        scalars, entries = events_of(folder), metrics_of(folder)
        assert set(scalars) == set(entries[0]) - {"epoch"}
        for name, steps in scalars.items():
            wanted = [float(np.mean(entry[name])) for entry in entries]
            np.testing.assert_allclose([steps[entry["epoch"]] for entry in entries], wanted, 1e-6)

    def test_anyone_may_read_them_whom_the_umask_lets(self, folder: Path) -> None:
        umask = os.umask(0)
        os.umask(umask)
        for name in ("config.json", "metrics.jsonl", "summary.json", "learning_curves.png"):
            assert (folder / name).stat().st_mode & 0o777 == 0o666 & ~umask


class TestCommand:
    """The command's output; testing reproduces what training found."""

    def test_trains_lenet_and_tells_what_it_found(
        self, mnist_folder: Path, in_tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["--train_per_class=20", "--batch_size=8", "--num_epochs=2"]
        code, stdout, stderr = runner.run_here(capfd, f"--mnist_path={mnist_folder}", *arguments)
        assert (code, stderr) == (0, "")
        folder = in_tmp_path / "results" / "dropmax"
        found = summary_of(folder)
        error = found["test_error_percent"][0]
        assert stdout.splitlines() == [
            f"data: digits from {mnist_folder}, in file order; it is not MNIST, whose figures do "
            "not compare",
            f"dropmax, lenet, digits (200 training examples): test error {error:.2f} % (seed 0)",
            "files: results/dropmax",
        ]
        assert len(metrics_of(folder)) == 2
        assert runner.run_here(capfd, "--mode=test").code == 0
        assert summary_of(folder) == found

    def test_testing_reproduces_the_figures(
        self, finished_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
        for name in ("summary.json", "learning_curves.png"):
            (folder / name).unlink()
        code, stdout, stderr = runner.run_here(capfd, "--mode=test", f"--savedir={folder}")
        assert (code, stderr) == (0, "")
        assert summary_of(folder) == summary_of(finished_run)
        assert (folder / "learning_curves.png").exists()
        assert stdout.splitlines()[-2].endswith("(2 seeds)")
        assert metrics_of(folder) == metrics_of(finished_run)

    def test_resuming_a_finished_run_changes_nothing(
        self, finished_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
        (folder / "summary.json").unlink()
        before = runner.files_under(folder)
        code, _, stderr = runner.run_here(capfd, "--resume", f"--savedir={folder}")
        assert (code, stderr) == (0, "")
        assert summary_of(folder) == summary_of(finished_run)
        after = runner.files_under(folder)
        del after["summary.json"], after["learning_curves.png"], before["learning_curves.png"]
        assert after == before

    def test_a_home_folder_may_be_written_as_tilde(
        self,
        finished_run: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        shutil.copytree(finished_run, tmp_path / "run")
        monkeypatch.setenv("HOME", str(tmp_path))
        code, stdout, _ = runner.run_here(capfd, "--mode=test", "--savedir=~/run")
        assert code == 0
        assert f"files: {tmp_path / 'run'}" in stdout


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


def assert_no_leftovers(folder: Path) -> None:
    hidden = {path.name for path in folder.iterdir() if path.name.startswith(".")}
    assert hidden <= {".lock"}


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


def damage(folder: Path, how: str) -> None:
    """Damages the parameters that a checkpoint holds, or the list of them."""
    files = sorted((folder / "state" / "d").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(files[-1].read_bytes())
    if how == "a file missing":
        shutil.rmtree(folder / "state" / "d")
    elif how == "truncated":
        files[-1].write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        files[-1].write_bytes(content)


class TestDamagedCheckpoint:
    @pytest.fixture
    def folder(self, dropmax_run: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(dropmax_run, tmp_path / "run"))

    @pytest.mark.parametrize("how", ["truncated", "a byte flipped", "a file missing"])
    def test_goes_on_from_the_one_before(
        self,
        dropmax_config: Config,
        dropmax_run: Path,
        small_data: Dataset,
        folder: Path,
        capfd: pytest.CaptureFixture[str],
        how: str,
    ) -> None:
        (folder / "summary.json").unlink()
        damage(folder / "checkpoints" / "100", how)
        run.train(dropmax_config, small_data, folder, save_every=1, resume=True)
        assert numbers_of(folder, dropmax_config, small_data) == numbers_of(
            dropmax_run, dropmax_config, small_data
        )
        stderr = capfd.readouterr().err
        assert stderr.startswith("dropmax, tiny: the checkpoint of step 100 is damaged (")
        assert stderr.endswith("): left out\n")
        assert stderr.count("\n") == 1
        assert set(events_of(folder)["train_loss"]) == {1, 2, 3, 4}

    def test_in_a_process_of_its_own_no_thread_tells_of_it(self, folder: Path) -> None:
        (folder / "summary.json").unlink()
        damage(folder / "checkpoints" / "100", "a file missing")
        damage(folder / "checkpoints" / "75", "truncated")
        code, stdout, stderr = runner.run_apart("--resume", f"--savedir={folder}")
        assert code == 0
        assert "test error" in stdout
        lines = stderr.splitlines()
        assert [line.split(" is damaged")[0] for line in lines] == [
            "dropmax, tiny: the checkpoint of step 100",
            "dropmax, tiny: the checkpoint of step 75",
        ]
        # The events are now in one file, where they were in two.
        assert set(events_of(folder)["train_loss"]) == {1, 2, 3, 4}

    def test_nor_does_asyncio_where_there_are_no_digests(self, folder: Path) -> None:
        """The run was killed before it wrote them, so that orbax reads the damaged file."""
        (folder / "summary.json").unlink()
        newest = folder / "checkpoints" / "100"
        (newest / "sha256.json").unlink()
        manifest = newest / "state" / "manifest.ocdbt"
        manifest.write_bytes(manifest.read_bytes()[:-10])
        code, _, stderr = runner.run_apart("--resume", f"--savedir={folder}")
        assert code == 0
        (line,) = stderr.splitlines()
        assert line.startswith("dropmax, tiny: the checkpoint of step 100 is damaged")

    def test_testing_tells_of_it_and_keeps_the_summary(
        self,
        dropmax_config: Config,
        dropmax_run: Path,
        small_data: Dataset,
        folder: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """The figures of three epochs do not pass for those of four."""
        damage(folder / "checkpoints" / "100", "truncated")
        summary = run.test(dropmax_config, small_data, folder)
        stdout = capfd.readouterr().out
        assert "the checkpoint of step 100 is damaged" in stdout
        assert "step 75 of 100" in stdout
        assert summary["test_nll"] != summary_of(dropmax_run)["test_nll"]
        assert summary_of(folder) == summary_of(dropmax_run)

    @pytest.mark.parametrize("flag", ["--resume", "--mode=test"])
    def test_all_damaged_is_an_error(
        self, folder: Path, capfd: pytest.CaptureFixture[str], flag: str
    ) -> None:
        for checkpoint in (folder / "checkpoints").iterdir():
            damage(checkpoint, "truncated")
        (folder / "summary.json").unlink()
        code, _, stderr = runner.run_here(capfd, f"--savedir={folder}", flag)
        assert code == 2
        assert "whole: train again into another --savedir" in stderr.splitlines()[-1]

    def test_none_is_an_error_when_testing(
        self, dropmax_config: Config, small_data: Dataset, folder: Path
    ) -> None:
        with pytest.raises(UserError, match=r"no run in .*: train one first"):
            run.test(dropmax_config, small_data, folder / "none")
        shutil.rmtree(folder / "checkpoints")
        with pytest.raises(UserError, match=r"no checkpoint in .*: train first"):
            run.test(dropmax_config, small_data, folder)


class TestLossNotFinite:
    def test_tells_where_and_saves_the_state(
        self, mnist_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "run"
        code, _, stderr = runner.run_here(
            capfd,
            f"--mnist_path={mnist_folder}",
            "--train_per_class=20",
            "--batch_size=8",
            "--num_epochs=4",
            f"--savedir={folder}",
            "--learning_rate=1e30",
        )
        assert code == 1
        assert stderr.count("\n") == 1
        for part in (
            "error: the loss is not finite: epoch 1, step 1, seed 0 ",
            "cross_entropy ",
            "kl_divergence ",
            "prior_negative_entropy ",
            "its key is fold_in(seed_keys(0).noise, 1)",
            f"the state is saved in {folder / 'diverged'}",
            "a lower learning rate may help",
        ):
            assert part in stderr
        assert [path.name for path in (folder / "diverged").iterdir()] == ["10"]
        assert not (folder / "summary.json").exists()
        assert list((folder / "checkpoints").iterdir()) == []

    def test_the_key_it_names_reproduces_it(
        self, dropmax_config: Config, small_data: Dataset, tmp_path: Path
    ) -> None:
        config = dataclasses.replace(dropmax_config, learning_rate=1e20)
        with pytest.raises(RunFailedError) as caught:
            run.train(config, small_data, tmp_path)
        found = re.search(
            r"step (\d+), seed 0 .* its key is fold_in\((.*), (\d+)\)", str(caught.value)
        )
        assert found is not None
        step = int(found[1])
        assert step > 0
        assert (found[2], int(found[3])) == ("seed_keys(0).noise", step)
        # We recompute it from the state before that step, its images, and the key.
        setup = make_setup(config, 200)
        state = jax.tree.map(lambda leaf: leaf[0], Steps(setup, small_data.train)(step))
        assert state.first_bad_step == training.NO_STEP
        keys = training.seed_keys(0)
        order = jax.random.permutation(jax.random.fold_in(keys.shuffle, 0), 200)
        rows = order[step * config.batch_size : (step + 1) * config.batch_size]
        images, labels = small_data.train.images[rows], small_data.train.labels[rows]

        def one_device(images: jax.Array, labels: jax.Array) -> training.TrainState:
            key = jax.random.fold_in(keys.noise, step)
            return training.train_step(setup, state, key, jnp.int32(step), images, labels)

        on_devices = jax.jit(jax.vmap(one_device, axis_name=devices.AXIS))
        after = on_devices(images[None], labels[None])
        assert after.first_bad_step.tolist() == [step]

    def test_names_the_seed(
        self,
        finished_run: Path,
        small_data: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Only the second of two seeds has a bad parameter."""
        config = read_config(finished_run / "config.json")
        initial = programs.initial_states

        def second_is_bad(setup: Setup, seeds: jax.Array) -> training.TrainState:
            state = initial(setup, seeds)
            params = jax.tree.map(lambda leaf: leaf.at[1].set(np.nan), state.params)
            return state._replace(params=params)

        monkeypatch.setattr(programs, "initial_states", second_is_bad)
        with pytest.raises(RunFailedError, match="epoch 1, step 0, seed 1 "):
            run.train(config, small_data, tmp_path)

    def test_after_the_last_step_it_is_noticed_too(
        self, dropmax_config: Config, small_data: Dataset, tmp_path: Path
    ) -> None:
        """The only step has a finite loss, and the parameters it leaves are not fit for use."""
        config = dataclasses.replace(
            dropmax_config, num_epochs=1, batch_size=200, learning_rate=1e37
        )
        with pytest.raises(RunFailedError, match="not finite"):
            run.train(config, small_data, tmp_path)
        assert not (tmp_path / "summary.json").exists()


class TestFolder:
    def test_of_a_run_under_way_is_refused_to_others(
        self, finished_run: Path, small_data: Dataset, tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
        before = runner.files_under(folder)
        config = read_config(folder / "config.json")
        with locked_folder(folder):
            for how in ({"overwrite": True}, {"resume": True}):
                with pytest.raises(UserError, match="another run is using"):
                    run.train(config, small_data, folder, **how)
            with pytest.raises(UserError, match="another run is using"):
                run.test(config, small_data, folder)
            code, _, stderr = runner.run_apart("--mode=test", f"--savedir={folder}")
            assert code == 2
            assert stderr.count("\n") == 1
        assert runner.files_under(folder) == before

    def test_removed_during_the_run_ends_it_with_a_line(
        self,
        dropmax_config: Config,
        small_data: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        folder = tmp_path / "run"
        original = loop.Trainer._end_epoch

        def remove_first(trainer: Any, progress: Any) -> None:
            shutil.rmtree(folder)
            original(trainer, progress)

        monkeypatch.setattr(loop.Trainer, "_end_epoch", remove_first)
        with pytest.raises(RunFailedError, match=str(folder)) as caught:
            run.train(dropmax_config, small_data, folder, save_every=1)
        assert "\n" not in str(caught.value)

    def test_on_a_full_disk_ends_the_run_and_keeps_the_earlier_state(
        self,
        dropmax_config: Config,
        dropmax_run: Path,
        small_data: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from experiments.runtime import files

        writes = 0
        original = files.replacing

        @contextlib.contextmanager
        def full(path: Path) -> Iterator[Path]:
            nonlocal writes
            writes += path.name == "metrics.jsonl"
            if writes == 3:
                raise OSError(28, "No space left on device", str(path))
            with original(path) as temporary:
                yield temporary

        monkeypatch.setattr(files, "replacing", full)
        with pytest.raises(RunFailedError, match="No space left on device"):
            run.train(dropmax_config, small_data, tmp_path, save_every=1)
        monkeypatch.undo()
        assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"25", "50"}
        run.train(dropmax_config, small_data, tmp_path, save_every=1, resume=True)
        assert numbers_of(tmp_path, dropmax_config, small_data) == numbers_of(
            dropmax_run, dropmax_config, small_data
        )

    def test_on_a_disk_that_is_full_sooner_or_later_is_gone_on_with(
        self, dropmax_config: Config, dropmax_run: Path, small_data: Dataset, tmp_path: Path
    ) -> None:
        """The disk is full for the configuration, then for the first checkpoint, written in C++."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        for largest in (100, 1_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
            try:
                with pytest.raises(RunFailedError, match="cannot .* File too large") as caught:
                    run.train(dropmax_config, small_data, tmp_path, save_every=1, resume=True)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            assert "\n" not in str(caught.value)
            assert not (tmp_path / "summary.json").exists()
            assert_no_leftovers(tmp_path)
        run.train(dropmax_config, small_data, tmp_path, save_every=1, resume=True)
        assert numbers_of(tmp_path, dropmax_config, small_data) == numbers_of(
            dropmax_run, dropmax_config, small_data
        )

    def test_half_removed_is_not_taken_for_another_run(
        self, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A kill while a run is removed must leave what is still recognised as a run."""
        folder = Path(shutil.copytree(finished_run, tmp_path / "run"))

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_run(folder)
        monkeypatch.undo()
        with pytest.raises(UserError, match="unfinished run"):
            check_folder(folder, resume=False, overwrite=False)


def test_a_run_in_a_thread_of_its_own_needs_no_signals(
    finished_run: Path, small_data: Dataset, tmp_path: Path
) -> None:
    """A notebook's or a test's thread cannot set signal handlers."""
    config = read_config(finished_run / "config.json")
    thread = threading.Thread(target=run.train, args=(config, small_data, tmp_path))
    thread.start()
    thread.join(timeout=120)
    assert summary_of(tmp_path)["test_nll"] == summary_of(finished_run)["test_nll"]


@pytest.mark.skipif(not MAPPINGS.exists(), reason="the limit is Linux's")
def test_many_runs_in_a_process_do_not_use_up_its_memory_mappings(
    finished_run: Path, small_data: Dataset, tmp_path: Path
) -> None:
    """The table of three sizes takes 51 runs; JAX ends a process that runs out of mappings."""
    config = read_config(finished_run / "config.json")
    jax.clear_caches()
    before = count_mappings()
    run.train_missing(config, small_data, tmp_path / "run")
    # The run's programs had some 2,000 mappings.
    assert count_mappings() < before + 500


@pytest.mark.parametrize(
    ("errors", "ending"),
    [
        ([3.456], "(1,000 training examples): test error 3.46 % (seed 7)"),
        ([3.0, 4.0], "(1,000 training examples): test error 3.50 % ± 6.35 (2 seeds)"),
    ],
)
def test_result_line(errors: list[float], ending: str) -> None:
    line = result_line(
        {
            "model": "softmax",
            "network": "cnn",
            "dataset": "mnist",
            "num_train": 1000,
            "seeds": list(range(7, 7 + len(errors))),
            "test_error_percent": errors,
        }
    )
    assert line == f"softmax, cnn, mnist {ending}"
