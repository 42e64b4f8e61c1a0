"""Signals as a wish to stop, which a loop looks at between two steps."""

import contextlib
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_ENDING = ("SIGINT", "SIGTERM")
# A dropped connection, and what batch systems send before a time limit; Windows lacks them.
_WARNING = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")

# Long enough for Python to leave the place that drops what is raised, on a busy machine too.
_AGAIN_SECONDS = 0.3


class Stopped(Exception):  # noqa: N818 - what was asked for is no error
    """A run that was asked to stop has saved its state and stops."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class StopRequest:
    """Which signal asked to stop, if any."""

    signal_number: int | None = None


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Turns a signal into a request.

    The second SIGINT or SIGTERM acts as it always does. SIGHUP and the warnings of batch systems
    may come again and again, while the state is saved too. A signal that the process ignores, such
    as SIGINT in the background of a script or SIGHUP under nohup, stays ignored; a warning that
    has a handler already keeps it.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in _numbers(_ENDING + _WARNING)}
    ending = [number for number in _numbers(_ENDING) if before[number] is not signal.SIG_IGN]
    warning = [number for number in _numbers(_WARNING) if before[number] is signal.SIG_DFL]

    def restore(numbers: list[signal.Signals]) -> None:
        for number in numbers:
            signal.signal(number, before[number])

    def handle(number: int, _: FrameType | None) -> None:
        request.signal_number = number
        if number in ending:
            restore(ending)
        elif number == getattr(signal, "SIGHUP", None):
            _leave_terminal()

    for number in ending + warning:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        restore(ending + warning)


def _numbers(names: tuple[str, ...]) -> list[signal.Signals]:
    return [signal.Signals[name] for name in names if name in signal.Signals.__members__]


def _leave_terminal() -> None:
    """Drops output that went to a terminal, because a write to a closed one fails."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        with contextlib.suppress(OSError):  # It may be closed.
            if stat.S_ISCHR(os.fstat(output).st_mode):
                os.dup2(nowhere, output)
    os.close(nowhere)


def keep_interruptions() -> None:
    """Lets Ctrl-C end the program even where Python drops the `KeyboardInterrupt`.

    It drops what is raised in callbacks of the garbage collector, which JAX has, and of weak
    references, and in `__del__`. The signal then comes again a moment later.
    """
    before = sys.unraisablehook

    def hook(dropped: "sys.UnraisableHookArgs") -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            before(dropped)
            return
        again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
