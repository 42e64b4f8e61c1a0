"""Files that are written whole or not at all, and the lock on a run's folder."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.cli.errors import UserError

# The names of temporary files begin with this; a killed run may leave some.
UNFINISHED = ".dropmax_unfinished."
LOCK = ".lock"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the path of a temporary file beside `path`, which takes its place at the end.

    A reader of `path` sees the old content or the new, and still the old after an error.
    """
    handle, name = tempfile.mkstemp(
        prefix=f"{UNFINISHED}{path.name}.", suffix=path.suffix, dir=path.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp lets only its owner read; a result is like any other file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file, or raises `UserError` if it is not one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def remove_unfinished(folder: Path) -> None:
    """Removes what runs that were killed have left in a folder that no run uses now."""
    for path in folder.glob(f"{UNFINISHED}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Makes a folder and keeps other runs out of it until the end of the block.

    It removes the unfinished files that a killed run has left there.

    Raises:
        UserError: The folder cannot be written to, or another run uses it.
    """
    import filelock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / LOCK, timeout=0)
        lock.acquire()
        remove_unfinished(folder)
    except filelock.Timeout as error:
        raise _in_use(folder) from error
    except (OSError, NotImplementedError) as error:
        raise UserError(
            f"cannot write to {folder}: {_reason(error)}; pass another --savedir"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def shared_folder(folder: Path) -> Iterator[None]:
    """Keeps runs out of a folder while the block reads it; writes nothing there.

    Several readers can share a folder. If it has no lock that can be opened, they go on without.

    Raises:
        UserError: A run is using the folder.
    """
    try:
        import fcntl
    except ImportError:  # on Windows
        yield
        return
    try:
        # Filelock would open it for writing, which read-only media refuse.
        lock = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _in_use(folder) from error
        except OSError:
            pass  # Some file systems have no locks.
        yield
    finally:
        os.close(lock)


def is_read_only(folder: Path) -> bool:
    """Whether this process can write nothing to a folder."""
    return not os.access(folder, os.W_OK)


def _in_use(folder: Path) -> UserError:
    return UserError(
        f"another run is using {folder}: wait for it to end, or pass another --savedir"
    )


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
