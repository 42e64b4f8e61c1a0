"""What a person sees while a run trains, or while something else takes long."""

import io
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

from tqdm import tqdm

from experiments.runtime import processes

_SECONDS_BETWEEN_LINES = 20.0
_Item = TypeVar("_Item")


class Progress:
    """A bar on a terminal; elsewhere a line now and then; of process 0. A context manager."""

    def __init__(self, name: str, step: int, num_steps: int, num_epochs: int) -> None:
        self._num_epochs, self._num_steps = num_epochs, num_steps
        self._stream: TextIO = sys.stderr if processes.is_first() else io.StringIO()
        self._name, self._first, self._step = name, step, step
        self._start = time.monotonic()
        self._last_line = self._start
        self._text = self._validation = ""
        self._bar = (
            tqdm(total=num_steps, initial=step, desc=name, unit="step", file=self._stream)
            if self._stream.isatty()
            else None
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def epoch_done(self, epoch: int, loss: float, validation_error_percent: float | None) -> None:
        """Notes the figures of an epoch; None for the validation error keeps the last one."""
        if validation_error_percent is not None:
            self._validation = f", validation error {validation_error_percent:.2f} %"
        self._text = f"epoch {epoch}/{self._num_epochs}, loss {loss:.4f}{self._validation}"
        if self._bar is not None:
            self._bar.set_postfix_str(self._text, refresh=False)

    def steps_done(self, step: int) -> None:
        """Shows how far training has come."""
        advance, self._step = step - self._step, step
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(advance)
        elif now - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = now
            speed = (step - self._first) / (now - self._start)
            left = (self._num_steps - step) / speed
            text = self._text or f"step {step}/{self._num_steps}"
            self.say(f"{text}, {speed:.1f} steps/s, {left:.0f} s left")

    def say(self, line: str) -> None:
        """Prints a line without disturbing the bar."""
        text = f"{self._name}: {line}"
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)


def followed(items: Iterable[_Item], total: int, name: str, unit: str) -> Iterator[_Item]:
    """Passes items on; shows how many came, as `Progress` does.

    Args:
        items: To pass on.
        total: How many there are.
        name: Of what is done, such as "reading".
        unit: What the items are called, such as "images".
    """
    stream: TextIO = sys.stderr if processes.is_first() else io.StringIO()
    last_line = time.monotonic()
    # On a pipe, tqdm's bar would be a line of its own at each update.
    with tqdm(total=total, desc=name, unit=unit, file=stream, disable=not stream.isatty()) as bar:
        for number, item in enumerate(items, start=1):
            yield item
            bar.update()
            if bar.disable and time.monotonic() - last_line > _SECONDS_BETWEEN_LINES:
                last_line = time.monotonic()
                print(f"{name}: {number:,} of {total:,} {unit}", file=stream, flush=True)
