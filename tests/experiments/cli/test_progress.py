import gc
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest

from experiments.cli import progress
from experiments.cli.progress import Progress, followed
from experiments.cli.stopping import Stopped, keep_interruptions, stop_request
from tests.experiments.runner import ROOT


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


class TestWithoutTerminal:
    def test_a_line_now_and_then(self, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
        with Progress("dropmax, lenet", 0, 100, 10) as shown:
            for step in range(10, 101, 10):
                clock.now += 8
                shown.epoch_done(step // 10, 1.5 / step, 100 / step)
                shown.steps_done(step)
        captured = capsys.readouterr()
        assert captured.out == ""
        # A line appears every third time, when more than 20 seconds have passed.
        assert captured.err.splitlines() == [
            f"dropmax, lenet: epoch {epoch}/10, loss {0.15 / epoch:.4f}, "
            f"validation error {10 / epoch:.2f} %, 1.2 steps/s, {80 - 8 * epoch} s left"
            for epoch in (3, 6, 9)
        ]

    def test_before_the_first_epoch_ends_the_steps(
        self, clock: Clock, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with Progress("name", 0, 100, 10) as shown:
            clock.now += 25
            shown.steps_done(5)
        assert capsys.readouterr().err == "name: step 5/100, 0.2 steps/s, 475 s left\n"

    def test_speed_of_a_resumed_run_counts_its_own_steps(
        self, clock: Clock, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with Progress("name", 900, 1000, 10) as shown:
            clock.now += 25
            shown.epoch_done(10, 1.0, 1.0)
            shown.steps_done(950)
        assert capsys.readouterr().err.endswith("2.0 steps/s, 25 s left\n")

    def test_an_epoch_that_is_not_validated_keeps_the_last_error(
        self, clock: Clock, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with Progress("name", 0, 100, 10) as shown:
            for step, error in ((10, 7.5), (20, None)):
                shown.epoch_done(step // 10, 0.25, error)
                clock.now += 25
                shown.steps_done(step)
        assert [line.rpartition(" %, ")[0] for line in capsys.readouterr().err.splitlines()] == [
            "name: epoch 1/10, loss 0.2500, validation error 7.50",
            "name: epoch 2/10, loss 0.2500, validation error 7.50",
        ]

    def test_warnings_are_said_at_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        with Progress("name", 0, 1, 1) as shown:
            shown.say("something is wrong")
        assert capsys.readouterr() == ("", "name: something is wrong\n")


def all_written(primary: int) -> str:
    """What was written to a terminal whose other side is closed."""
    chunks = []
    try:
        while chunk := os.read(primary, 4096):
            chunks.append(chunk)
    except OSError:
        pass
    finally:
        os.close(primary)
    return b"".join(chunks).decode()


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    primary, secondary = pty.openpty()
    termios.tcsetwinsize(secondary, (24, 160))
    terminal: TextIO
    with os.fdopen(secondary, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress("dropmax, lenet", 40, 100, 10) as shown:
            shown.say("something is wrong")
            shown.epoch_done(5, 0.25, 3.5)
            shown.steps_done(50)
            shown.epoch_done(10, 0.125, 2.5)
            shown.steps_done(100)
    text = all_written(primary)
    assert "dropmax, lenet: something is wrong\r\n" in text
    last = text.rstrip().rsplit("\r", 1)[-1]
    for part in (
        "dropmax, lenet: 100%",
        "100/100",
        "step/s",
        "epoch 10/10, loss 0.1250, validation error 2.50 %",
    ):
        assert part in last
    # A resumed run's bar begins where the run was.
    assert re.search(r" 40%\|", text)


class _Interrupted:
    """What Ctrl-C hits while it is deleted."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def _in_a_collection() -> None:
    def interrupted(phase: str, _: dict[str, int]) -> None:
        gc.callbacks.remove(interrupted)
        signal.raise_signal(signal.SIGINT)

    gc.callbacks.append(interrupted)
    gc.collect()


def _in_a_weak_reference() -> None:
    thing = Clock()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    assert reference() is None


@pytest.mark.parametrize("hit", [_Interrupted, _in_a_collection, _in_a_weak_reference])
def test_an_interruption_that_python_drops_comes_again(
    hit: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    try:
        keep_interruptions()
        with pytest.raises(KeyboardInterrupt):
            hit()
            time.sleep(10)
    finally:
        signal.signal(signal.SIGINT, before)


WARNINGS = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]


class TestStopRequest:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_first_signal_is_a_wish_and_handlers_come_back(self, number: signal.Signals) -> None:
        before = signal.getsignal(number)
        with stop_request() as request:
            assert request.signal_number is None
            assert signal.getsignal(number) is not before
            signal.raise_signal(number)
            assert request.signal_number == number
            assert signal.getsignal(number) is before
        assert signal.getsignal(number) is before

    def test_second_ctrl_c_interrupts(self) -> None:
        with stop_request():
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    @pytest.mark.parametrize("number", [signal.SIGINT, *WARNINGS])
    def test_an_ignored_signal_stays_ignored(self, number: signal.Signals) -> None:
        before = signal.signal(number, signal.SIG_IGN)
        try:
            with stop_request() as request:
                signal.raise_signal(number)
                assert request.signal_number is None
            assert signal.getsignal(number) is signal.SIG_IGN
        finally:
            signal.signal(number, before)

    @pytest.mark.parametrize("number", WARNINGS)
    def test_a_warning_may_come_again_and_be_followed_by_sigterm(
        self, number: signal.Signals
    ) -> None:
        assert signal.getsignal(number) is signal.SIG_DFL
        with stop_request() as request:
            signal.raise_signal(number)
            assert request.signal_number == number
            signal.raise_signal(number)
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(number) is signal.SIG_DFL
        assert Stopped(number, "").exit_code == 128 + number

    def test_a_warning_that_has_a_handler_keeps_it(self) -> None:
        caught: list[int] = []
        before = signal.signal(signal.SIGUSR1, lambda number, _: caught.append(number))
        try:
            with stop_request() as request:
                signal.raise_signal(signal.SIGUSR1)
            assert (caught, request.signal_number) == ([signal.SIGUSR1], None)
        finally:
            signal.signal(signal.SIGUSR1, before)

    def test_a_lost_terminal_ends_no_process_that_still_prints(self, tmp_path: Path) -> None:
        """The outer process holds the other end of the inner one's terminal, and closes it."""
        inner = (
            "import sys, time; from experiments.cli.stopping import stop_request\n"
            "with stop_request() as request:\n"
            "    print('ready', flush=True)\n"
            "    while request.signal_number is None: time.sleep(0.01)\n"
            "    print('a line', flush=True)\n"
            "    print('a line', file=sys.stderr, flush=True)\n"
            "sys.exit(128 + request.signal_number)\n"
        )
        outer = (
            "import os, pty, sys\n"
            "process, terminal = pty.fork()\n"
            "if process == 0: os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])\n"
            "while b'ready' not in os.read(terminal, 1000): pass\n"
            "os.close(terminal)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))\n"
        )
        command = [sys.executable, "-c", outer, inner]
        printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert (printed.stdout, printed.stderr) == ("129\n", "")

    def test_handlers_come_back_after_an_error(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(RuntimeError), stop_request():
            raise RuntimeError
        assert signal.getsignal(signal.SIGINT) is before

    def test_in_another_thread_there_is_no_wish(self) -> None:
        wishes = []

        def work() -> None:
            with stop_request() as request:
                wishes.append(request.signal_number)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert wishes == [None]

    def test_exit_code_is_that_of_shells(self) -> None:
        assert Stopped(signal.SIGTERM, "").exit_code == 143
        assert Stopped(signal.SIGINT, "").exit_code == 130


class TestFollowed:
    def test_a_line_now_and_then(self, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
        passed = []
        for item in followed(range(1000), 1000, "reading", "images"):
            passed.append(item)
            clock.now += 0.05
        assert passed == list(range(1000))
        lines = capsys.readouterr().err.splitlines()
        assert lines == ["reading: 401 of 1,000 images", "reading: 802 of 1,000 images"]

    def test_nothing_if_it_is_quick(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert list(followed("abc", 3, "reading", "images")) == ["a", "b", "c"]
        assert capsys.readouterr().err == ""

    def test_a_bar_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        primary, secondary = pty.openpty()
        termios.tcsetwinsize(secondary, (24, 160))
        with os.fdopen(secondary, "w") as terminal:
            monkeypatch.setattr(sys, "stderr", terminal)
            assert len(list(followed("abc", 3, "reading", "images"))) == 3
            terminal.flush()
            shown = ""
            while "3/3" not in shown and select.select([primary], [], [], 10.0)[0]:
                shown += os.read(primary, 10_000).decode()
        os.close(primary)
        assert "reading: 100%" in shown
        assert "3/3" in shown
