"""Ctrl-C and SIGTERM as a wish to stop, which a loop looks at between two steps."""

import contextlib
import gc
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


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
    """Turns the first SIGINT or SIGTERM into a request; the second acts as it always does.

    A signal that the process ignores, such as SIGINT in the background of a script, stays ignored.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if (handler := signal.getsignal(number)) is not signal.SIG_IGN
    }

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, _: FrameType | None) -> None:
        request.signal_number = number
        restore()

    for number in before:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        restore()


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
