"""A run's checkpoints: orbax writes them whole or not at all, and digests detect damage."""

import contextlib
import errno
import hashlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.cli.errors import RunFailedError, UserError
from experiments.runtime import agreement, processes
from experiments.runtime.files import remove_unfinished, write_json

_KEPT = 3
_STRAGGLING_SECONDS = 0.5
_FILE_DIGESTS = "sha256.json"
_WRITE_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
)


class Checkpoint(NamedTuple):
    """A state to go on from.

    Attributes:
        step: Steps done.
        state: A pytree of NumPy arrays.
        progress: What the run has told so far, as JSON values.
    """

    step: int
    state: Any
    progress: dict[str, Any]


class Checkpoints:
    """The checkpoints in a folder, the newest few; a context manager.

    All processes of a run take part in each call, and see the same folder.

    Args:
        folder: Made unless it is there, and rid of what a killed run left unfinished.
        read_only: Create and change nothing; keep damaged checkpoints too.

    Raises:
        UserError: The folder is a link: what it leads to may be somebody else's.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        if folder.is_symlink():
            raise UserError(f"{folder} is a link: put the folder itself there")
        # Orbax logs every step it takes, and damage, which `restore` reports in a line. So does
        # asyncio, of the other tasks of a read that failed.
        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._manager = _manager(folder, read_only)
        for step in () if read_only else self._manager.all_steps():
            remove_unfinished(self._folder(step))

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, checkpoint: Checkpoint) -> None:
        """Saves a state, unless one of that step is there.

        Raises:
            RunFailedError: It cannot be written.
        """
        if checkpoint.step in self._manager.all_steps():
            return
        about = {
            "digest": digest(checkpoint.state),
            "progress": checkpoint.progress,
            "progress_digest": _text_digest(checkpoint.progress),
        }
        parts = ocp.args.Composite(
            state=ocp.args.StandardSave(checkpoint.state), about=ocp.args.JsonSave(about)
        )
        folder = self._folder(checkpoint.step)
        try:
            with _threads_silenced():
                self._save(checkpoint.step, parts)
            if processes.is_first():
                write_json(folder / _FILE_DIGESTS, _file_digests(folder))
        except Exception as error:  # orbax raises many kinds
            if processes.is_peer_failure(error):
                raise
            raise RunFailedError(
                f"cannot save the checkpoint of step {checkpoint.step} in "
                f"{self._manager.directory}: {_reason(error)}"
            ) from error

    def _save(self, step: int, parts: Any) -> None:
        try:
            self._manager.save(step, args=parts, force=True)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            # Threads of a save that failed were still writing where orbax cleared up.
            time.sleep(_STRAGGLING_SECONDS)
            self._manager = _manager(Path(self._manager.directory), read_only=False)
            self._manager.save(step, args=parts, force=True)

    def restore(self, like: Any, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest state that is whole; None if there are no checkpoints.

        It warns of damaged ones and removes them, so that they can be written again.

        Args:
            like: A pytree of arrays, or of their shapes, of the structure saved.
            warn: Called with a line for each damaged checkpoint.

        Raises:
            UserError: There are checkpoints, but none is whole, or one is of another precision.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                with _threads_silenced():
                    checkpoint = self._restore_step(step, like)
            except Exception as error:  # orbax raises many kinds
                if processes.is_peer_failure(error) or isinstance(error, UserError):
                    raise
                warn(f"the checkpoint of step {step} is damaged ({_reason(error)}): left out")
                continue
            for damaged in steps[: steps.index(step)]:
                self._manager.delete(damaged)
            return checkpoint
        if steps:
            raise UserError(
                f"no checkpoint in {self._manager.directory} is whole: train again into another "
                "--savedir"
            )
        return None

    def _folder(self, step: int) -> Path:
        return Path(self._manager.directory) / str(step)

    def _restore_step(self, step: int, like: Any) -> Checkpoint:
        agreement.run_on_all(lambda: _check_files(self._folder(step)))
        return agreement.run_on_all(lambda: self._restore_whole(step, like))

    def _restore_whole(self, step: int, like: Any) -> Checkpoint:
        template = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(template), about=ocp.args.JsonRestore()
            ),
        )
        state, about = jax.tree.map(np.asarray, restored["state"]), restored["about"]
        progress = about["progress"]
        if (digest(state), _text_digest(progress)) != (about["digest"], about["progress_digest"]):
            if (self._folder(step) / _FILE_DIGESTS).exists():  # Its files are whole.
                raise UserError(
                    f"the checkpoint of step {step} in {self._manager.directory} has numbers of "
                    "another precision: set JAX_ENABLE_X64 as it was when they were written"
                )
            raise ValueError("its digest differs")
        if jax.tree.map(np.shape, state) != jax.tree.map(np.shape, template):
            raise ValueError("its arrays have other shapes")
        return Checkpoint(step, state, progress)


def _manager(folder: Path, read_only: bool) -> ocp.CheckpointManager:
    # Read-only, orbax makes, cleans and deletes nothing, whatever the other options say.
    options = ocp.CheckpointManagerOptions(
        read_only=read_only,
        max_to_keep=_KEPT,
        cleanup_tmp_directories=True,
        enable_async_checkpointing=False,
    )
    return ocp.CheckpointManager(folder.absolute(), options=options)


@contextlib.contextmanager
def _threads_silenced() -> Iterator[None]:
    """Reports only the block's own error, and not those of its worker threads.

    If a file of orbax cannot be read or written, tensorstore's threads print errors about the other
    files, at once or later.
    """
    before = sys.unraisablehook

    def main_thread_only(unraisable: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            before(unraisable)

    sys.unraisablehook = main_thread_only
    yield
    # Not after an error.
    sys.unraisablehook = before


def digest(state: Any) -> str:
    """A hash of the names, shapes, types and values of all arrays of a pytree."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _check_files(folder: Path) -> None:
    """Raises ValueError if a file of a checkpoint is not what was written.

    Call this before orbax reads the files: its threads print an error for each damaged one.
    """
    if not (folder / _FILE_DIGESTS).exists():
        # The run was killed before it could write them; the digests within still detect damage.
        return
    found = _file_digests(folder)
    for name, wanted in json.loads((folder / _FILE_DIGESTS).read_bytes()).items():
        if name not in found:
            raise ValueError(f"{name} is missing")
        if found[name] != wanted:
            raise ValueError(f"{name} has changed")


def _file_digests(folder: Path) -> dict[str, str]:
    """A hash of each file of a checkpoint, by its path in the checkpoint's folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _FILE_DIGESTS
    }


def _text_digest(values: Any) -> str:
    """A hash of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _reason(error: Exception) -> str:
    """Why orbax failed, in a line."""
    text = str(error)
    # The operating system's reason, out of orbax's long message.
    for reason in map(os.strerror, _WRITE_ERRORS):
        if reason in text:
            return reason
    lines = text.splitlines()
    line = lines[0] if lines else type(error).__name__
    return line if len(line) <= 200 else f"{line[:100]} ... {line[-100:]}"
