"""A run from beginning to end: train, save, resume, test, and the files it writes."""

import contextlib
import functools
import importlib.metadata
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from dropmax_jax import METHODS, Method, metrics
from experiments.cli.errors import RunFailedError, UserError
from experiments.cli.progress import Progress
from experiments.cli.stopping import Stopped, StopRequest, stop_request
from experiments.data import Dataset
from experiments.reports import plots
from experiments.reports.statistics import mean_and_half_width
from experiments.runtime import devices, jax_settings, processes
from experiments.runtime.files import (
    is_read_only,
    locked_folder,
    read_folder,
    write_json,
    write_text,
)
from experiments.train import evaluation, tensorboard, training
from experiments.train.checkpoints import Checkpoint, Checkpoints
from experiments.train.config import Config, differences, read_config

_SECONDS_A_CALL = 1.0


def train(
    config: Config,
    data: Dataset,
    savedir: Path,
    *,
    save_every: int = 50,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Trains and tests a model for each seed, and writes the files of a run.

    Args:
        config: what to train.
        data: what to train it on.
        savedir: the run's folder, which all processes see and process 0 alone writes reports to.
        save_every: epochs between two checkpoints; there is one more at the end.
        resume: go on from the newest checkpoint, if there is one.
        overwrite: begin anew where there is a run already.

    Returns:
        The content of `summary.json`.

    Raises:
        UserError: the configuration, the data and the folder do not go together.
        Stopped: a signal asked to stop; the state is saved.
        RunFailedError: the loss is not finite, and the state is saved for inspection; or a file
            cannot be written, and those before it are kept.
    """
    _check_sizes(config, data)
    with (
        jax_settings.applied(config.jax_settings),
        _locked_by_first(savedir),
        _failed_writes_told(savedir),
    ):
        processes.run_on_first(lambda: _prepare_folder(config, savedir, resume, overwrite))
        finished = processes.run_on_all(lambda: _finished_summary(savedir, config))
        if finished is not None:
            return finished
        # From here on, for an interruption while XLA compiles can be lost or crash.
        with (
            stop_request() as request,
            Checkpoints(savedir / "checkpoints") as checkpoints,
        ):
            trainer = _Trainer(config, data, savedir, checkpoints, save_every)
            trainer.train(request)
            checkpoint = trainer.checkpoint()
        summary = _summary(trainer.task, config, data, checkpoint)
        _write_results(savedir, summary, checkpoint)
        return summary


def train_missing(config: Config, data: Dataset, savedir: Path) -> dict[str, Any]:
    """Trains a run unless it is finished, from where it was left: for commands of many runs.

    The process forgets all its compiled programs at the end: on CPU those of one run take some
    2,000 memory mappings, and Linux lets a process have 65,530.

    Returns and raises what `train` does.
    """
    try:
        return train(config, data, savedir, resume=True)
    except Stopped as stopped:
        raise Stopped(
            stopped.exit_code - 128,
            f"stopped; the state is saved in {savedir}: run the same command again to go on",
        ) from stopped
    finally:
        jax.clear_caches()


def _finished_summary(savedir: Path, config: Config) -> dict[str, Any] | None:
    """What a finished run wrote; None if there is none, or its files are damaged."""
    try:
        summary = json.loads((savedir / "summary.json").read_text(encoding="utf-8"))
        lines = (savedir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        is_whole = len(lines) == config.num_epochs and all(map(json.loads, lines))
        return summary if is_whole and summary["seeds"] == list(config.seeds) else None
    except (OSError, ValueError, LookupError, TypeError):
        # They are written again, from the checkpoints.
        return None


def test(config: Config, data: Dataset, savedir: Path) -> dict[str, Any]:
    """Tests the newest checkpoint of a run; writes `summary.json` if it is that of the last step.

    A folder that is read-only is tested, too, and left as it is.

    Returns:
        What `summary.json` holds, or would.

    Raises:
        UserError: there is no such run, or it is of another configuration.
    """
    if not (savedir / "config.json").is_file():
        raise UserError(f"there is no run in {savedir}: train one first, or pass --savedir")
    _check_same_config(config, savedir)
    task = training.make_task(config, len(data.train.labels))
    # Process 0 decides for all.
    read_only = bool(processes.gather(is_read_only(savedir))[0, 0])
    lock = read_folder if read_only else locked_folder
    with (
        jax_settings.applied(config.jax_settings),
        processes.hold_on_first(lambda: lock(savedir)),
        _failed_writes_told(savedir),
    ):
        with Checkpoints(savedir / "checkpoints", read_only=read_only) as checkpoints:
            like = training.abstract_states(task, config.seeds)
            checkpoint = checkpoints.restore(like, warn=print)
        if checkpoint is None:
            raise UserError(f"there is no checkpoint in {savedir}: train first")
        summary = _summary(task, config, data, checkpoint)
        num_steps = task.steps_per_epoch * config.num_epochs
        if checkpoint.step != num_steps:
            print(f"the run is unfinished: this is step {checkpoint.step} of {num_steps}")
        if read_only:
            print(f"{savedir} is read-only: nothing was written")
        elif checkpoint.step == num_steps:
            _write_results(savedir, summary, checkpoint)
        return summary


def _locked_by_first(savedir: Path) -> contextlib.AbstractContextManager[None]:
    return processes.hold_on_first(lambda: locked_folder(savedir))


@contextlib.contextmanager
def _failed_writes_told(savedir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFailedError(
            f"cannot write to {savedir}: {error.strerror or error}; what was saved before is kept"
        ) from error


def check_settings(config: Config) -> None:
    """Raises `UserError` if the method's loss has no such hyper-parameter."""
    known = METHODS[config.model].hyperparameters
    if unknown := [name for name in config.settings if name not in known]:
        raise UserError(f"--{unknown[0]} means nothing to --model={config.model}: leave it out")


def result_line(summary: dict[str, Any]) -> str:
    """What a run comes to, in one line.

    >>> result_line({
    ...     "model": "dropmax", "network": "lenet", "dataset": "mnist", "num_train": 1000,
    ...     "seeds": [0, 1, 2], "test_error_percent": [3.4, 3.5, 3.6],
    ... })
    'dropmax, lenet, mnist (1,000 training images): test error 3.50 % ± 0.25 (3 seeds)'
    """
    seeds = summary["seeds"]
    mean, half_width = mean_and_half_width(summary["test_error_percent"])
    spread = (
        f" ± {half_width:.2f} ({len(seeds)} seeds)" if len(seeds) > 1 else f" (seed {seeds[0]})"
    )
    return (
        f"{summary['model']}, {summary['network']}, {summary['dataset']} "
        f"({summary['num_train']:,} training images): test error {mean:.2f} %{spread}"
    )


def _check_sizes(config: Config, data: Dataset) -> None:
    """Raises `UserError` if batches and data do not go together."""
    jax.devices()  # It fails if there are none, before anything is written.
    num_train = len(data.train.labels)
    if config.batch_size > num_train:
        raise UserError(
            f"--batch_size={config.batch_size} is larger than the training set of {num_train} "
            "images: raise --train_per_class, or lower the batch size"
        )
    if num_train // config.batch_size * config.num_epochs >= training.NO_STEP:
        raise UserError(
            f"--num_epochs={config.num_epochs} is too large: there can be {training.NO_STEP:,} "
            "steps at most"
        )


def check_missing(config: Config, data: Dataset, savedir: Path) -> None:
    """Raises `UserError` if `train_missing` could not make a run in a folder, or go on with it."""
    _check_sizes(config, data)
    _check_folder_for(config, savedir, resume=True, overwrite=False)


def check_folder(savedir: Path, resume: bool, overwrite: bool) -> None:
    """Raises `UserError` if the folder can hold no run, or one that is not to be touched."""
    # Orbax takes brackets for a pattern, tensorstore a backslash for an escape, and both want
    # UTF-8: checkpoints could not be read again.
    path, file = str(savedir.absolute()), savedir / "config.json"
    if set(path) & set("[]\\") or any(0xD800 <= ord(letter) < 0xE000 for letter in path):
        raise UserError(
            f"checkpoints cannot be kept in {path!r}: pass a --savedir without brackets, "
            "backslashes and bytes that are not UTF-8"
        )
    if os.path.exists(file):
        # Even to replace it: other programs, too, have files of this name.
        if not overwrite or os.path.isdir(file) or os.path.getsize(file) > 0:
            read_config(file)
        if overwrite or resume:
            return
        finished = (savedir / "summary.json").exists()
        advice = "pass --mode=test to test it" if finished else "pass --resume to go on with it"
        raise UserError(
            f"{savedir} holds {'a finished' if finished else 'an unfinished'} run: {advice}, "
            "--overwrite to replace it, or another --savedir"
        )
    for name in ("checkpoints", "summary.json"):
        if os.path.exists(savedir / name):
            raise UserError(
                f"{savedir} holds {name} but no config.json, so of which run is unknown: remove "
                "it, or pass another --savedir"
            )


def _check_folder_for(config: Config, savedir: Path, resume: bool, overwrite: bool) -> None:
    check_folder(savedir, resume, overwrite)
    if resume and (savedir / "config.json").exists():
        _check_same_config(config, savedir)


def _prepare_folder(config: Config, savedir: Path, resume: bool, overwrite: bool) -> None:
    _check_folder_for(config, savedir, resume, overwrite)
    if resume and (savedir / "config.json").exists():
        return
    if overwrite:
        _remove_run(savedir)
    write_json(savedir / "config.json", config.to_json())


def _remove_run(savedir: Path) -> None:
    """Removes the files of a run, and nothing else."""
    folders = [
        savedir / name for name in ("checkpoints", "diverged") if os.path.lexists(savedir / name)
    ]
    for folder in folders:
        if folder.is_symlink() or not folder.is_dir():
            raise UserError(f"{folder} is no folder of a run: remove it, or pass another --savedir")
    for name in ("summary.json", "metrics.jsonl", "learning_curves.png"):
        (savedir / name).unlink(missing_ok=True)
    tensorboard.remove_events(savedir, 0)
    for folder in folders:
        shutil.rmtree(folder)
    # Last, so that nobody takes what a kill leaves here for another run's.
    (savedir / "config.json").unlink(missing_ok=True)


def _check_same_config(config: Config, savedir: Path) -> None:
    found = read_config(savedir / "config.json")
    if different := differences(found, config):
        raise UserError(
            f"the run in {savedir} is another one: its {', its '.join(different)}; "
            "pass the flags it was trained with, or another --savedir"
        )


class _Trainer:
    """The loop, and what it knows: the state on the devices and the run's story on the host."""

    def __init__(
        self,
        config: Config,
        data: Dataset,
        savedir: Path,
        checkpoints: Checkpoints,
        save_every: int,
    ) -> None:
        self.config, self.savedir, self.save_every = config, savedir, save_every
        self.task = training.make_task(config, len(data.train.labels))
        self.checkpoints = checkpoints
        self.seeds = jax.numpy.asarray(config.seeds, np.int32)
        self.warnings: list[str] = []
        like = training.abstract_states(self.task, config.seeds)
        restored = checkpoints.restore(like, self.warnings.append)
        if restored is None:
            self.step = 0
            self.history: list[dict[str, Any]] = []
            self.train_seconds = self.compile_seconds = self.epoch_seconds = 0.0
            self.state = devices.replicate(training.initial_states(self.task, self.seeds))
        else:
            self.step = restored.step
            self.history = restored.progress["history"]
            self.train_seconds = restored.progress["train_seconds"]
            self.compile_seconds = restored.progress["compile_seconds"]
            self.epoch_seconds = restored.progress["epoch_seconds"]
            self.state = devices.replicate(restored.state)
        self.saved_epoch = len(self.history)
        processes.run_on_first(lambda: tensorboard.remove_events(savedir, self.saved_epoch + 1))
        self.data = training.on_devices(data.train)
        self.validation = evaluation.on_devices(data.validation)
        self.predict = evaluation.predictor(self.task.network)

    @property
    def num_steps(self) -> int:
        return self.task.steps_per_epoch * self.config.num_epochs

    def checkpoint(self) -> Checkpoint:
        progress = {
            "history": self.history,
            "train_seconds": self.train_seconds,
            "compile_seconds": self.compile_seconds,
            "epoch_seconds": self.epoch_seconds,
        }
        return Checkpoint(self.step, devices.unreplicate(self.state), progress)

    def save(self) -> None:
        self._write_metrics()
        # Before the checkpoint: should the run be killed between the two, they are written again.
        if processes.is_first():
            tensorboard.write_events(self.savedir, self.history, self.saved_epoch + 1)
        self.checkpoints.save(self.checkpoint())
        self.saved_epoch = len(self.history)

    def train(self, request: StopRequest) -> None:
        if self.step >= self.num_steps:
            self._write_metrics()
            return
        start = time.perf_counter()
        run_steps = training.pmapped_train_steps(self.task)
        # No steps, so as to compile: what pmap's own `lower` gives is for one process only.
        self.state = jax.block_until_ready(
            run_steps(self.state, self.seeds, self.step, self.step, *self.data)
        )
        self.validation_errors()
        self.compile_seconds += time.perf_counter() - start
        settings = [f"{name} {value}" for name, value in self.config.settings.items()]
        name = ", ".join([self.config.model, *settings, self.config.network])
        with Progress(name, self.step, self.num_steps, self.config.num_epochs) as progress:
            for warning in self.warnings:
                progress.say(warning)
            self._loop(run_steps, request, progress)
        self.save()
        # Or a signal while it saved would be lost.
        self._agreed(0, request)

    def _loop(
        self,
        run_steps: Callable[..., training.TrainState],
        request: StopRequest,
        progress: Progress,
    ) -> None:
        per_epoch = self.task.steps_per_epoch
        # With many seeds on CPU, one takes seconds.
        steps_a_call = min(per_epoch, max(1, 10 // len(self.config.seeds)))
        while self.step < self.num_steps:
            stop = min(self.step + steps_a_call, (self.step // per_epoch + 1) * per_epoch)
            start = time.perf_counter()
            self.state = jax.block_until_ready(
                run_steps(self.state, self.seeds, self.step, stop, *self.data)
            )
            seconds = time.perf_counter() - start
            # Long enough to be efficient, and short enough to stop soon and show progress.
            steps_a_call = max(1, int((stop - self.step) * _SECONDS_A_CALL / seconds))
            self.step, self.train_seconds = stop, self.train_seconds + seconds
            self.epoch_seconds += seconds
            self._check_finite()
            if self.step % per_epoch == 0:
                self._end_epoch(progress)
            progress.steps_done(self.step)
            # Last, so that a signal is not left waiting for another call.
            steps_a_call = self._agreed(steps_a_call, request)

    def _agreed(self, steps_a_call: int, request: StopRequest) -> int:
        """How many steps all processes do next; raises `Stopped` if one was asked to stop."""
        steps_a_call, signal_number = processes.agree(steps_a_call, request.signal_number)
        if signal_number is None:
            return steps_a_call
        self.save()
        raise Stopped(
            signal_number,
            f"stopped at step {self.step} of {self.num_steps}; the state is saved in "
            f"{self.savedir}: pass --resume to go on",
        )

    def _end_epoch(self, progress: Progress) -> None:
        totals = {
            name: np.asarray(total, float) / (self.task.steps_per_epoch * self.task.batch_size)
            for name, total in devices.unreplicate(self.state.totals).items()
        }
        validation = np.asarray(self.validation_errors(), float)
        errors = 100 * totals.pop("errors")
        loss, epoch = totals.pop("loss"), len(self.history) + 1
        entry = {
            "train_loss": loss,
            **totals,
            "train_error_percent": errors,
            "validation_error_percent": 100 * validation,
        }
        self.history.append(
            {
                "epoch": epoch,
                **{name: _plain(value) for name, value in entry.items()},
                "seconds": round(self.epoch_seconds, 4),
            }
        )
        self.epoch_seconds = 0.0
        progress.epoch_done(epoch, float(loss.mean()), 100 * float(validation.mean()))
        if epoch % self.save_every == 0 and epoch < self.config.num_epochs:
            self.save()
        else:
            self._write_metrics()

    def validation_errors(self) -> Array:
        heads = self.predict(self.state.params, self.seeds, self.validation)
        return _errors(self.task.method, heads, self.validation.labels)

    def _write_metrics(self) -> None:
        if not processes.is_first():
            return
        lines = [json.dumps(entry) + "\n" for entry in self.history]
        write_text(self.savedir / "metrics.jsonl", "".join(lines))

    def _check_finite(self) -> None:
        bad_steps = devices.unreplicate(self.state.first_bad_step)
        step = int(bad_steps.min())
        if step == training.NO_STEP:
            return
        seed = self.config.seeds[int(bad_steps.argmin())]
        totals = devices.unreplicate(self.state.totals)
        terms = ", ".join(
            f"{name} {values[int(bad_steps.argmin())]}" for name, values in totals.items()
        )
        with Checkpoints(self.savedir / "diverged") as inspection:
            inspection.save(self.checkpoint())
        raise RunFailedError(
            f"the loss is not finite: epoch {step // self.task.steps_per_epoch + 1}, step {step}, "
            f"seed {seed} (sums over the epoch: {terms}); its key is "
            f"fold_in(seed_keys({seed}).noise, {step}); the state is saved in "
            f"{self.savedir / 'diverged'}; a lower learning rate may help"
        )


def _summary(
    task: training.Task, config: Config, data: Dataset, checkpoint: Checkpoint
) -> dict[str, Any]:
    """Tests a state; returns what `summary.json` says of it."""
    seeds = jax.numpy.asarray(config.seeds, np.int32)
    figures, fitted = evaluation.evaluate(
        task, checkpoint.state.params, seeds, data.validation, data.test
    )
    if not all(np.all(np.isfinite(values)) for values in figures):
        raise RunFailedError(
            f"the predictions after step {checkpoint.step} are not finite: a lower learning rate "
            "may help"
        )
    progress = checkpoint.progress
    steps = checkpoint.step * len(config.seeds)
    return {
        "model": config.model,
        "network": config.network,
        "dataset": data.name,
        "num_train": len(data.train.labels),
        "num_test": len(data.test.labels),
        "seeds": list(config.seeds),
        **{f"test_{name}": _numbers(values) for name, values in figures._asdict().items()},
        # With all digits, since `trained` predicts with it.
        **({} if fitted is None else {"fitted": np.asarray(fitted).tolist()}),
        "train_seconds": round(progress["train_seconds"], 3),
        "compile_seconds": round(progress["compile_seconds"], 3),
        "steps_per_second": round(steps / progress["train_seconds"], 2),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "versions": versions(),
    }


def _write_results(savedir: Path, summary: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Writes the files that only a finished run has."""
    if not processes.is_first():
        return
    title = f"{summary['model']}, {summary['network']}, {summary['dataset']}"
    history = checkpoint.progress["history"]
    plots.learning_curves(history, title, savedir / "learning_curves.png")
    # Last: it tells that the run is finished.
    write_json(savedir / "summary.json", summary)


def versions() -> dict[str, str]:
    """The versions of what the numbers depend on."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
    }


@functools.partial(jax.jit, static_argnums=0)
def _errors(method: Method, heads: Any, labels: Array) -> Array:
    """The error rates `[seeds]` of heads without what the method samples or fits."""
    log_probs = jax.vmap(method.log_probs)(heads)
    return jax.vmap(metrics.error_rate, (0, None))(log_probs, labels)


def _plain(values: Any) -> Any:
    """An array over seeds as JSON values: a list, or the number itself of a single seed."""
    numbers = _numbers(values)
    return numbers if len(numbers) > 1 else numbers[0]


def _numbers(values: Any) -> list[float]:
    # float32 has no more digits: 3.77 is to be read as such, not as 3.7699999809265137.
    return [float(f"{value:.7g}") for value in np.asarray(values)]
