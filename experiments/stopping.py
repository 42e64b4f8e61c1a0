"""Ctrl-C and SIGTERM as a wish to stop, which a loop looks at between two steps."""

import contextlib
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
