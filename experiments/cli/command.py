"""What the commands share: flags that check themselves, one-line errors and exit codes."""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import flags

from experiments.cli.errors import RunFailedError, UserError
from experiments.cli.kinds import SWITCH, Kind
from experiments.cli.stopping import Stopped, keep_interruptions
from experiments.runtime import jax_settings, processes

_INTERRUPTED = 128 + signal.SIGINT
_HELP = {"--help", "-help", "-h", "--helpfull"}


class Flags:
    """The flags of one command, in the order of their definition.

    Each command has its own, so that one process can import several commands. What a method
    returns holds the flag's `value` after parsing.

    Args:
        takes: What the command's arguments beside the flags are called, if it takes any. It needs
            at least one then.

    Attributes:
        arguments: The arguments that are no flags, after parsing.
    """

    def __init__(self, takes: str | None = None) -> None:
        self.values = flags.FlagValues()
        self.takes = takes
        self.arguments: list[str] = []
        # Flags may then come after arguments, too.
        self.values.set_gnu_getopt(takes is not None)

    def define(self, name: str, default: Any, text: str, kind: Kind) -> Any:
        """Defines a flag, with what `--help` says of it."""
        if kind is SWITCH:
            return flags.DEFINE_bool(name, default, text, flag_values=self.values)
        if kind.choices:
            text = f"{text}: {', '.join(kind.choices[:-1])} or {kind.choices[-1]}"
        return flags.DEFINE(
            _Parser(kind),
            name,
            default,
            text,
            self.values,
            flags.CsvListSerializer(",") if isinstance(default, list) else None,
        )

    def switch(self, name: str, text: str) -> Any:
        """Defines a flag that is off unless given."""
        return self.define(name, False, text, SWITCH)


class _Parser(flags.ArgumentParser[Any]):
    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.syntactic_help = kind.syntax

    def parse(self, argument: Any) -> Any:
        return self.kind.parse(argument)


def run(main: Callable[[], None], own: Flags, description: str) -> NoReturn:
    """Parses the flags, runs a command and exits.

    Exit codes: 0 success, 1 a run that failed, 2 a mistake of the user's, 128 + n a signal n that
    stopped it, such as 130 for Ctrl-C.

    Args:
        main: The command.
        own: The flags it reads.
        description: What `--help` says first.
    """
    # A shell can have closed them.
    sys.stdout = sys.stdout or io.StringIO()
    sys.stderr = sys.stderr or io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        # Replace the letters that a terminal lacks, instead of failing.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    keep_interruptions()
    code = exit_code(main, own, description, sys.argv)
    processes.leave(code)
    if code == _INTERRUPTED:
        # The usual exit would crash where XLA's threads still compile.
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def exit_code(
    main: Callable[[], None], own: Flags, description: str, arguments: Sequence[str]
) -> int:
    """What `run` exits with."""
    try:
        if _HELP.intersection(arguments[1:]):
            print(f"{description.strip()}\n\nFlags:\n\n{_help(own)}")
            return 0
        own.arguments = _parsed(own, arguments)[1:]
        if own.arguments and own.takes is None:
            raise UserError(
                f"unexpected argument {own.arguments[0]!r}: flags are written --name=value"
            )
        if own.takes is not None and not own.arguments:
            raise UserError(f"name an {own.takes}; --help says which there can be")
        main()
    except (UserError, flags.Error) as error:
        return _fail(2, f"error: {error}")
    except RunFailedError as error:
        return _fail(1, f"error: {error}")
    except BrokenPipeError:
        # The reader of the output has left: exit as a command that SIGPIPE ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        # Such as a full disk, where no command has more to say of it.
        return _fail(1, f"error: {error}")
    except (MemoryError, RuntimeError, AssertionError) as error:
        # XLA's errors start with their kind.
        if isinstance(error, MemoryError) or str(error).startswith("RESOURCE_EXHAUSTED"):
            return _fail(
                1,
                f"error: out of memory ({str(error)[:200]}); fewer seeds, or less data, need less "
                "of it; what was saved is kept",
            )
        # JAX says in several ways that it lacks the devices it is told to use.
        reason = jax_settings.missing_devices() if "jax" in sys.modules else None
        if reason is None:
            raise
        return _fail(2, f"error: {reason}")
    except Stopped as stopped:
        return _fail(stopped.exit_code, str(stopped))
    except KeyboardInterrupt:
        return _fail(_INTERRUPTED, "interrupted")
    return 0


def _parsed(own: Flags, arguments: Sequence[str]) -> list[str]:
    """The arguments that are no flags."""
    try:
        return own.values(list(arguments))
    except ValueError as error:  # absl's, of a switch with a value
        raise UserError(str(error)) from error


def print_report(file: Path) -> None:
    """Shows what a command wrote, and where."""
    print(f"\n{file.read_text(encoding='utf-8')}\nfiles: {file.parent}")


def set_up_jax() -> None:
    """Imports JAX for a command, with its debugging aids off.

    JAX keeps compiled programs in the user's cache folder, unless the environment names another.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        _keep_compiled_programs()
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
    jax_settings.apply({})


def _keep_compiled_programs() -> None:
    """Tells JAX where to keep them, if there is a place: a container's user may have no home."""
    above = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.join(above, "dropmax_jax")
    try:
        if not os.path.isabs(folder):
            raise FileNotFoundError(errno.ENOENT, "there is no home folder")
        os.makedirs(folder, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, f"{folder} cannot be written to")
    except OSError as error:
        print(
            f"compiled programs are not kept for the next start ({error.strerror}): set HOME or "
            "JAX_COMPILATION_CACHE_DIR to a folder of yours to keep them",
            file=sys.stderr,
        )
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder


def _help(own: Flags) -> str:
    # Without the lines that name the files in which flags are defined.
    lines = own.values.get_help(include_special_flags=False).splitlines()
    return "\n".join(line for line in lines if line.startswith(" "))


def _fail(code: int, message: str) -> int:
    print(" ".join(message.split()), file=sys.stderr, flush=True)
    return code
