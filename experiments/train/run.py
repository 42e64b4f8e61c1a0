"""A run from beginning to end: train, save, resume, test, and the files it writes."""

from pathlib import Path
from typing import Any

import jax

from experiments.cli.errors import UserError
from experiments.cli.stopping import Stopped, stop_request
from experiments.data.datasets import Dataset
from experiments.runtime import agreement, jax_settings
from experiments.runtime.files import is_read_only, locked_folder, shared_folder
from experiments.train.checkpoints import Checkpoints
from experiments.train.checks import check_sizes
from experiments.train.config import Config
from experiments.train.folder import (
    check_folder_for,
    check_same_config,
    finished_summary,
    prepare_folder,
    reported_write_errors,
)
from experiments.train.loop import Trainer
from experiments.train.steps import programs
from experiments.train.steps.setup import make_setup
from experiments.train.summary import summarize, write_results


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
        config: What to train.
        data: What to train it on.
        savedir: The run's folder, which all processes see and process 0 alone writes reports to.
        save_every: Epochs between two checkpoints; there is one more at the end.
        resume: Go on from the newest checkpoint, if there is one.
        overwrite: Begin anew where there is a run already.

    Returns:
        The content of `summary.json`.

    Raises:
        UserError: The configuration, the data and the folder do not go together.
        Stopped: A signal asked to stop; the state is saved.
        RunFailedError: The loss is not finite, and the state is saved for inspection; or a file
            cannot be written, and those before it are kept.
    """
    check_sizes(config, data)
    with (
        jax_settings.applied(config.jax_settings),
        agreement.hold_on_first(lambda: locked_folder(savedir)),
        reported_write_errors(savedir),
    ):
        agreement.run_on_first(lambda: prepare_folder(config, savedir, resume, overwrite))
        finished = agreement.run_on_all(lambda: finished_summary(savedir, config))
        if finished is not None:
            return finished
        # Catch signals from here on: an interrupt while XLA compiles can be lost, or crash.
        with (
            stop_request() as request,
            Checkpoints(savedir / "checkpoints") as checkpoints,
        ):
            trainer = Trainer(config, data, savedir, checkpoints, save_every)
            trainer.train(request)
            checkpoint = trainer.checkpoint()
        summary = summarize(trainer.setup, config, data, checkpoint)
        write_results(savedir, summary, checkpoint)
        return summary


def train_missing(config: Config, data: Dataset, savedir: Path) -> dict[str, Any]:
    """Trains or resumes a run that is not finished, for commands that train many.

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


def test(config: Config, data: Dataset, savedir: Path) -> dict[str, Any]:
    """Tests the newest checkpoint of a run; writes `summary.json` if it is that of the last step.

    A folder that is read-only is tested, too, and left as it is.

    Returns:
        What `summary.json` holds, or would.

    Raises:
        UserError: There is no such run, or it is of another configuration.
    """
    if not (savedir / "config.json").is_file():
        raise UserError(f"there is no run in {savedir}: train one first, or pass --savedir")
    check_same_config(config, savedir)
    setup = make_setup(config, len(data.train.labels))
    # Process 0 decides for all.
    read_only = bool(agreement.gather(is_read_only(savedir))[0, 0])
    lock = shared_folder if read_only else locked_folder
    with (
        jax_settings.applied(config.jax_settings),
        agreement.hold_on_first(lambda: lock(savedir)),
        reported_write_errors(savedir),
    ):
        with Checkpoints(savedir / "checkpoints", read_only=read_only) as checkpoints:
            like = programs.abstract_states(setup, config.seeds)
            checkpoint = checkpoints.restore(like, warn=print)
        if checkpoint is None:
            raise UserError(f"there is no checkpoint in {savedir}: train first")
        summary = summarize(setup, config, data, checkpoint)
        num_steps = setup.steps_per_epoch * config.num_epochs
        if checkpoint.step != num_steps:
            print(f"the run is unfinished: this is step {checkpoint.step} of {num_steps}")
        if read_only:
            print(f"{savedir} is read-only: nothing was written")
        elif checkpoint.step == num_steps:
            write_results(savedir, summary, checkpoint)
        return summary


def check_missing(config: Config, data: Dataset, savedir: Path) -> None:
    """Raises `UserError` if `train_missing` could not make a run in a folder, or go on with it."""
    check_sizes(config, data)
    check_folder_for(config, savedir, resume=True, overwrite=False)
