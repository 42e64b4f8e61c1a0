"""The training loop: steps, epochs, checkpoints and signals."""

import functools
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from dropmax_jax import Method, metrics
from experiments.cli.errors import RunFailedError
from experiments.cli.progress import Progress
from experiments.cli.stopping import Stopped, StopRequest
from experiments.data.datasets import Dataset
from experiments.runtime import agreement, devices, processes
from experiments.runtime.files import write_text
from experiments.train import evaluation, tensorboard
from experiments.train.checkpoints import Checkpoint, Checkpoints
from experiments.train.config import Config
from experiments.train.record import is_recorded, make_record
from experiments.train.steps import feeds, programs, training
from experiments.train.steps.setup import make_setup
from experiments.train.summary import rounded

_SECONDS_A_CALL = 1.0
# An epoch of fewer training images than this many times the validation images is short.
_SHORT = 3


class Trainer:
    """The training loop: its state on the devices, its metrics on the host."""

    def __init__(
        self,
        config: Config,
        data: Dataset,
        savedir: Path,
        checkpoints: Checkpoints,
        save_every: int,
    ) -> None:
        self.config, self.savedir, self.save_every = config, savedir, save_every
        self.setup = make_setup(config, len(data.train.labels))
        self.checkpoints = checkpoints
        self.seeds = jax.numpy.asarray(config.seeds, np.int32)
        self.warnings: list[str] = []
        like = programs.abstract_states(self.setup, config.seeds)
        restored = checkpoints.restore(like, self.warnings.append)
        if restored is None:
            self.step = 0
            self.history: list[dict[str, Any]] = []
            self.train_seconds = self.compile_seconds = self.epoch_seconds = 0.0
            self.state = devices.replicate(programs.initial_states(self.setup, self.seeds))
        else:
            self.step = restored.step
            self.history = restored.progress["history"]
            self.train_seconds = restored.progress["train_seconds"]
            self.compile_seconds = restored.progress["compile_seconds"]
            self.epoch_seconds = restored.progress["epoch_seconds"]
            self.state = devices.replicate(restored.state)
        self.saved_epoch = len(self.history)
        agreement.run_on_first(lambda: tensorboard.remove_events(savedir, self.saved_epoch + 1))
        self.feed = feeds.make_feed(self.setup, data.train, self.seeds)
        if not feeds.fits(data.train):
            size = data.train.images.nbytes / 1e9
            self.warnings.append(f"the training examples take {size:.1f} GB and are streamed")
        keep = feeds.fits(data.validation)
        self.validation = evaluation.shard_images(data.validation, self.setup.network, keep)
        self.has_short_epochs = len(data.train.labels) < _SHORT * len(data.validation.labels)
        self.predict = evaluation.predictor(self.setup.network)
        self.record = make_record(self.setup, data) if config.record_test else None

    @property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        return self.setup.steps_per_epoch * self.config.num_epochs

    def checkpoint(self) -> Checkpoint:
        """What a checkpoint holds now."""
        progress = {
            "history": self.history,
            "train_seconds": self.train_seconds,
            "compile_seconds": self.compile_seconds,
            "epoch_seconds": self.epoch_seconds,
        }
        return Checkpoint(self.step, devices.unreplicate(self.state), progress)

    def save(self) -> None:
        """Saves a checkpoint, metrics and events."""
        self._write_metrics()
        # Before the checkpoint: should the run be killed between the two, they are written again.
        if processes.is_first():
            tensorboard.write_events(self.savedir, self.history, self.saved_epoch + 1)
        self.checkpoints.save(self.checkpoint())
        self.saved_epoch = len(self.history)

    def train(self, request: StopRequest) -> None:
        """Trains to the end; raises `Stopped` or `RunFailedError`."""
        if self.step >= self.num_steps:
            self._write_metrics()
            return
        start = time.perf_counter()
        # Zero steps, to compile: pmap's `lower` works for a single process only.
        self._run_steps(self.step)
        self._validated(self.config.num_epochs)
        self._recorded(self.config.num_epochs)
        self.compile_seconds += time.perf_counter() - start
        chosen = [f"{name} {value}" for name, value in self.config.hyperparameters.items()]
        name = ", ".join([self.config.model, *chosen, self.config.network])
        with Progress(name, self.step, self.num_steps, self.config.num_epochs) as progress:
            for warning in self.warnings:
                progress.say(warning)
            self._loop(request, progress)
        self.save()
        # A signal may have arrived during saving.
        self._agreed(0, request)

    def _run_steps(self, stop: int) -> None:
        """Trains up to step `stop`."""
        inputs = self.feed.inputs(self.step)
        self.state = self.feed.program(self.state, self.seeds, self.step, stop, *inputs)
        # The call returns while the devices are still at work.
        if self.step < stop < self.num_steps:
            self.feed.prepare(stop)
        jax.block_until_ready(self.state)

    def _loop(self, request: StopRequest, progress: Progress) -> None:
        per_epoch = self.setup.steps_per_epoch
        # With many seeds on CPU, one takes seconds.
        steps_a_call = max(1, 10 // len(self.config.seeds))
        while self.step < self.num_steps:
            steps_a_call = min(steps_a_call, self.feed.most_steps)
            stop = min(self.step + steps_a_call, (self.step // per_epoch + 1) * per_epoch)
            start = time.perf_counter()
            self._run_steps(stop)
            seconds = time.perf_counter() - start
            # Long enough to be efficient, and short enough to stop soon and show progress.
            steps_a_call = max(1, int((stop - self.step) * _SECONDS_A_CALL / seconds))
            self.step, self.train_seconds = stop, self.train_seconds + seconds
            self.epoch_seconds += seconds
            self._check_finite()
            if self.step % per_epoch == 0:
                self._end_epoch(progress)
            progress.steps_done(self.step)
            # Last, so that a signal need not wait for another call.
            steps_a_call = self._agreed(steps_a_call, request)

    def _agreed(self, steps_a_call: int, request: StopRequest) -> int:
        """How many steps all processes do next; raises `Stopped` if one was asked to stop."""
        steps_a_call, signal_number = agreement.agree(steps_a_call, request.signal_number)
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
            name: np.asarray(total, float) / (self.setup.steps_per_epoch * self.setup.batch_size)
            for name, total in devices.unreplicate(self.state.totals).items()
        }
        errors = 100 * totals.pop("errors")
        loss, epoch = totals.pop("loss"), len(self.history) + 1
        entry = {
            "train_loss": loss,
            **totals,
            "train_error_percent": errors,
            **self._validated(epoch),
            **self._recorded(epoch),
        }
        self.history.append(
            {
                "epoch": epoch,
                **{name: _plain(value) for name, value in entry.items()},
                "seconds": round(self.epoch_seconds, 4),
            }
        )
        self.epoch_seconds = 0.0
        validation = entry.get("validation_error_percent")
        progress.epoch_done(
            epoch, float(loss.mean()), None if validation is None else float(validation.mean())
        )
        if epoch % self.save_every == 0 and epoch < self.config.num_epochs:
            self.save()
        else:
            self._write_metrics()

    def _validated(self, epoch: int) -> dict[str, np.ndarray]:
        """The errors on the validation set after an epoch; if epochs are short, after some only.

        For LeNet and 1,000 images, validation takes a third of the time of an epoch's steps.
        """
        if self.has_short_epochs and not is_recorded(epoch, self.config.num_epochs):
            return {}
        heads = self.predict(self.state.params, self.seeds, self.validation)
        errors = _errors(self.setup.method, heads, self.validation.labels)
        return {"validation_error_percent": 100 * np.asarray(errors, float)}

    def _recorded(self, epoch: int) -> dict[str, np.ndarray]:
        """What `record_test` adds to an epoch that has just ended."""
        if self.record is None or not is_recorded(epoch, self.config.num_epochs):
            return {}
        return self.record(self.state.params, self.seeds)

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
            f"the loss is not finite: epoch {step // self.setup.steps_per_epoch + 1}, step {step}, "
            f"seed {seed} (sums over the epoch: {terms}); its key is "
            f"fold_in(seed_keys({seed}).noise, {step}); the state is saved in "
            f"{self.savedir / 'diverged'}; a lower learning rate may help"
        )


@functools.partial(jax.jit, static_argnums=0)
def _errors(method: Method, heads: Any, labels: Array) -> Array:
    """The error rates `[seeds]` of heads without what the method samples or fits."""
    log_probs = jax.vmap(method.log_probs)(heads)
    return jax.vmap(metrics.error_rate, (0, None))(log_probs, labels)


def _plain(values: Any) -> Any:
    """An array over seeds as JSON values: a list, or the number itself of a single seed."""
    numbers = rounded(values)
    return numbers if len(numbers) > 1 else numbers[0]
