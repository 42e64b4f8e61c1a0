"""What the commands that train one run share: `experiments.mnist` and `experiments.images`."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.cli import command, process_flags
from experiments.cli.command import Flags
from experiments.cli.config_flags import ConfigFlags
from experiments.cli.errors import UserError
from experiments.cli.kinds import PATH, choice, integer
from experiments.runtime import agreement, processes
from experiments.train.config import Config, read_config


class TrainCommand:
    """A command that trains, tests and resumes a run.

    Args:
        own: The command's flags; those of a run are added to them.
        config: The flags that say what to train.
        where: What `--help` says of the folder that `folder` gives.
        folder: The run's folder, if `--savedir` is not given, from the values of the flags.
    """

    def __init__(
        self,
        own: Flags,
        config: ConfigFlags,
        where: str,
        folder: Callable[[Mapping[str, Any]], Path],
    ) -> None:
        self._config, self._folder = config, folder
        self._savedir = own.define("savedir", None, f"folder of the run (default: {where})", PATH)
        self._mode = own.define(
            "mode",
            "train",
            "train, save and test, or only test the run in --savedir",
            choice(("train", "test")),
        )
        self._save_every = own.define("save_every", 50, "epochs between checkpoints", integer())
        self._resume = own.switch("resume", "go on with the run in --savedir")
        self._overwrite = own.switch("overwrite", "replace the run in --savedir")
        self._processes = process_flags.define(own)

    def main(self) -> None:
        """Runs the command."""
        tests, resume, overwrite = (
            self._mode.value == "test",
            self._resume.value,
            self._overwrite.value,
        )
        if (resume or tests) and overwrite:
            other = "--mode=test" if tests else "--resume"
            raise UserError(f"{other} and --overwrite contradict each other: drop one")
        savedir = self._savedir.value or self._folder(self._config.values())
        config = self._config.config(_kept(savedir, resume) if resume or tests else None)
        command.set_up_jax()
        with processes.joined(*(flag.value for flag in self._processes)):
            _run(config, savedir, self._save_every.value, tests, resume, overwrite)


def _run(
    config: Config, savedir: Path, save_every: int, tests: bool, resume: bool, overwrite: bool
) -> None:
    # Only now, so that --help and mistakes in flags are answered at once.
    from experiments.data import datasets
    from experiments.train import checks, run
    from experiments.train.folder import check_folder
    from experiments.train.summary import result_line

    checks.check_hyperparameters(config)
    if not tests:
        agreement.run_on_first(lambda: check_folder(savedir, resume, overwrite))
    dataset = agreement.run_on_all(lambda: datasets.load_aloud(config))
    config = datasets.configured(config, dataset)
    shared = [config.identity(), config.record_test, save_every, tests, resume, overwrite]
    agreement.check_same("flags or data", json.dumps(shared))
    if tests:
        summary = run.test(config, dataset, savedir)
    else:
        summary = run.train(
            config, dataset, savedir, save_every=save_every, resume=resume, overwrite=overwrite
        )
    print(result_line(summary))
    print(f"files: {savedir}")


def _kept(savedir: Path, resume: bool) -> Config | None:
    """The configuration of the run in `savedir`, which keeps its values where no flag is given."""
    file = savedir / "config.json"
    if os.path.exists(file):
        return read_config(file)
    if resume:
        return None
    raise UserError(f"there is no run in {savedir}: train one first, or pass --savedir")
