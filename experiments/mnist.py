"""Trains a method on MNIST and reports its test error: `python -m experiments.mnist`."""

import json
import os
from pathlib import Path

from experiments.cli import command, process_flags
from experiments.cli.config_flags import ConfigFlags
from experiments.cli.errors import UserError
from experiments.cli.kinds import PATH, choice, integer
from experiments.runtime import agreement, processes
from experiments.train.config import Config, read_config

FLAGS = command.Flags()
_CONFIG = ConfigFlags(FLAGS)
_SAVEDIR = FLAGS.define("savedir", None, "folder of the run (default: results/MODEL)", PATH)
_MODE = FLAGS.define(
    "mode",
    "train",
    "train, save and test, or only test the run in --savedir",
    choice(("train", "test")),
)
_SAVE_EVERY = FLAGS.define("save_every", 50, "epochs between checkpoints", integer())
_RESUME = FLAGS.switch("resume", "go on with the run in --savedir")
_OVERWRITE = FLAGS.switch("overwrite", "replace the run in --savedir")
_PROCESSES = process_flags.define(FLAGS)


def main() -> None:
    """Runs the command."""
    tests, resume, overwrite = _MODE.value == "test", _RESUME.value, _OVERWRITE.value
    if (resume or tests) and overwrite:
        other = "--mode=test" if tests else "--resume"
        raise UserError(f"{other} and --overwrite contradict each other: drop one")
    savedir = _SAVEDIR.value or Path("results", _CONFIG.values()["model"])
    config = _CONFIG.config(_kept(savedir, resume) if resume or tests else None)
    command.set_up_jax()
    with processes.joined(*(flag.value for flag in _PROCESSES)):
        _run(config, savedir, tests, resume, overwrite)


def _run(config: Config, savedir: Path, tests: bool, resume: bool, overwrite: bool) -> None:
    # Only now, so that --help and mistakes in flags are answered at once.
    from experiments import data
    from experiments.train import run
    from experiments.train.folder import check_folder
    from experiments.train.summary import result_line

    run.check_hyperparameters(config)
    if not tests:
        agreement.run_on_first(lambda: check_folder(savedir, resume, overwrite))
    dataset = agreement.run_on_all(lambda: data.load_aloud(config))
    config = config.with_data(dataset.name, data.fingerprint(dataset))
    shared = [config.identity(), _SAVE_EVERY.value, tests, resume, overwrite]
    agreement.check_same("flags or data", json.dumps(shared))
    if tests:
        summary = run.test(config, dataset, savedir)
    else:
        summary = run.train(
            config,
            dataset,
            savedir,
            save_every=_SAVE_EVERY.value,
            resume=resume,
            overwrite=overwrite,
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


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
