"""What the commands share: flags that check themselves, one-line errors and exit codes."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import flags

from experiments.errors import RunFailedError, UserError
from experiments.stopping import Stopped

# A flag defined through a function below belongs to the command that called it.
flags.disclaim_key_flags()

_HELP = {"--help", "-help", "-h", "--helpfull"}


def define_positive_integer(
    name: str, default: int | None, text: str, largest: int = 2**31 - 1
) -> Any:
    """Defines a flag that takes a whole number from 1 on."""
    return flags.DEFINE_integer(name, default, text, lower_bound=1, upper_bound=largest)


def define_positive_float(name: str, default: float | None, text: str) -> Any:
    """Defines a flag that takes a number above 0 that float32 can hold."""
    holder = flags.DEFINE_float(name, default, text)
    flags.register_validator(
        name,
        lambda value: value is None or 1e-37 <= value <= 1e38,
        message="must be a finite number above 0, from 1e-37 to 1e38",
    )
    return holder


def define_choice(name: str, default: str, choices: Sequence[str], text: str) -> Any:
    """Defines a flag that takes one of several words."""
    # absl's own enum flag breaks long lists of choices within their words in --help.
    listed = f"{', '.join(choices[:-1])} or {choices[-1]}"
    holder = flags.DEFINE_string(name, default, f"{text}: {listed}")
    flags.register_validator(
        name, lambda value: value in choices, message=f"must be one of {', '.join(choices)}"
    )
    return holder


def define_train_per_class(name: str, default: str, text: str) -> Any:
    """Defines a flag that takes a whole number from 1 on, or `all`."""
    holder = flags.DEFINE_string(name, default, text)
    flags.register_validator(
        name,
        is_train_per_class,
        message="must be a whole number from 1 on, or 'all'",
    )
    return holder


def is_train_per_class(value: str) -> bool:
    """Whether a text is a whole number from 1 on, or `all`."""
    # int() refuses thousands of digits.
    is_count = value.isdecimal() and len(value) <= 10
    return value == "all" or (is_count and 0 < int(value) < 2**31)


def per_class(value: str) -> int | None:
    """The number that a flag of `define_train_per_class` stands for, None for `all`."""
    return None if value == "all" else int(value)


def run(main: Callable[[], None], description: str) -> NoReturn:
    """Parses the flags, runs a command and exits.

    Exit codes: 0 success, 1 a run that failed, 2 a mistake of the user's, 130 Ctrl-C, 143 SIGTERM.

    Args:
        main: the command; it reads the flags it defined.
        description: what `--help` says first.
    """
    sys.exit(exit_code(main, description, sys.argv))


def exit_code(main: Callable[[], None], description: str, arguments: Sequence[str]) -> int:
    """What `run` exits with."""
    try:
        if _HELP.intersection(arguments[1:]):
            print(f"{description}\n\nFlags:\n{flags.FLAGS.main_module_help()}")
            return 0
        _parse(arguments)
        main()
    except (UserError, flags.Error) as error:
        return _fail(2, f"error: {error}")
    except RunFailedError as error:
        return _fail(1, f"error: {error}")
    except Stopped as stopped:
        return _fail(stopped.exit_code, str(stopped))
    except KeyboardInterrupt:
        return _fail(130, "interrupted")
    return 0


def use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX is told of another place."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dropmax_jax"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def _parse(arguments: Sequence[str]) -> None:
    rest = flags.FLAGS(list(arguments))
    if len(rest) > 1:
        raise UserError(f"unexpected argument {rest[1]!r}: flags are written --name=value")


def _fail(code: int, message: str) -> int:
    print(" ".join(message.split()), file=sys.stderr, flush=True)
    return code
