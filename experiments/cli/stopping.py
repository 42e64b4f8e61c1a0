"""Signals as a wish to stop, which a loop looks at between two steps."""

import contextlib
import gc
import os
import signal
import stat
import threading
from collections.abc import Iterator
from types import FrameType

_ENDING = ("SIGINT", "SIGTERM")
# A dropped connection, and what batch systems send before a time limit; Windows lacks them.
_WARNING = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")


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
    """Lets Ctrl-C raise `KeyboardInterrupt` even while Python collects garbage.

    JAX takes part in that by a callback, and Python drops what is raised within one.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return

    def handle(number: int, frame: FrameType | None) -> None:
        callbacks = [getattr(callback, "__code__", None) for callback in gc.callbacks]
        if frame is None or frame.f_code not in callbacks:
            raise KeyboardInterrupt
        again = threading.Timer(0.05, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    signal.signal(signal.SIGINT, handle)
