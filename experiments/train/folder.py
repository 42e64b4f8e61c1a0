"""The folder of a run: what it may be, how it begins, and how it is locked."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cli.errors import RunFailedError, UserError
from experiments.runtime.files import write_json
from experiments.train import tensorboard
from experiments.train.config import Config, differences, read_config


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


def check_folder_for(config: Config, savedir: Path, resume: bool, overwrite: bool) -> None:
    """Raises what `check_folder` does, also if it holds a run of another configuration."""
    check_folder(savedir, resume, overwrite)
    if resume and (savedir / "config.json").exists():
        check_same_config(config, savedir)


def check_same_config(config: Config, savedir: Path) -> None:
    """Raises `UserError` if the folder's run has another configuration."""
    found = read_config(savedir / "config.json")
    if different := differences(found, config):
        raise UserError(
            f"the run in {savedir} is another one: its {', its '.join(different)}; "
            "pass the flags it was trained with, or another --savedir"
        )


def prepare_folder(config: Config, savedir: Path, resume: bool, overwrite: bool) -> None:
    """Begins a run in a folder, or leaves the one there for `resume`; raises `UserError`."""
    check_folder_for(config, savedir, resume, overwrite)
    if resume and (savedir / "config.json").exists():
        return
    if overwrite:
        remove_run(savedir)
    write_json(savedir / "config.json", config.to_json())


def remove_run(savedir: Path) -> None:
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


def finished_summary(savedir: Path, config: Config) -> dict[str, Any] | None:
    """What a finished run wrote; None if there is none, or its files are damaged."""
    try:
        summary = json.loads((savedir / "summary.json").read_text(encoding="utf-8"))
        lines = (savedir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        is_whole = len(lines) == config.num_epochs and all(map(json.loads, lines))
        return summary if is_whole and summary["seeds"] == list(config.seeds) else None
    except (OSError, ValueError, LookupError, TypeError):
        # They are written again, from the checkpoints.
        return None


@contextlib.contextmanager
def reported_write_errors(savedir: Path) -> Iterator[None]:
    """Turns the system's errors into a `RunFailedError` that names the folder."""
    try:
        yield
    except OSError as error:
        raise RunFailedError(
            f"cannot write to {savedir}: {error.strerror or error}; what was saved before is kept"
        ) from error


def validation_error(savedir: Path) -> float:
    """The validation error at the end of a run in percent, the mean over its seeds."""
    last = (savedir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    return float(np.mean(json.loads(last)["validation_error_percent"]))
