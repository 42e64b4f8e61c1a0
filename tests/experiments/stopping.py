"""Runs that are asked to stop at a chosen moment."""

import contextlib
import signal
from collections.abc import Iterator

import pytest

from experiments.cli.stopping import StopRequest
from experiments.train import loop, run


@contextlib.contextmanager
def stopping_at_look(monkeypatch: pytest.MonkeyPatch, look: int) -> Iterator[None]:
    """A stop request that is there when the loop looks for the n-th time.

    The loop looks after each call of the compiled steps: ten steps first, then one each.
    """

    class Request(StopRequest):
        looks = 0

        @property
        def signal_number(self) -> int | None:  # type: ignore[override]
            self.looks += 1
            return signal.SIGTERM if self.looks >= look else None

    @contextlib.contextmanager
    def request() -> Iterator[StopRequest]:
        yield Request()

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_SECONDS_A_CALL", 0.0)
        patch.setattr(run, "stop_request", request)
        yield
