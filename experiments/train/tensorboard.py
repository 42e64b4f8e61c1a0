"""The curves of a run as TensorBoard events."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.runtime.files import UNFINISHED


def write_events(folder: Path, history: Sequence[Mapping[str, Any]], first_epoch: int) -> None:
    """Writes the epochs from `first_epoch` on as one event file, whole or not at all.

    A file's name is that of its first epoch, so that a resumed run replaces what it trains again.

    Args:
        folder: Of the run; TensorBoard finds the events in it.
        history: The objects of `metrics.jsonl`.
        first_epoch: The first epoch that earlier files do not hold.
    """
    from tensorboardX import FileWriter
    from tensorboardX.summary import scalar

    entries = [entry for entry in history if entry["epoch"] >= first_epoch]
    if not entries:
        return
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder) as temporary:
        writer = FileWriter(temporary)
        for entry in entries:
            for name in entry.keys() - {"epoch"}:
                writer.add_summary(scalar(name, float(np.mean(entry[name]))), entry["epoch"])
        writer.close()
        (written,) = Path(temporary).iterdir()
        written.replace(folder / f"events.out.tfevents.{first_epoch:010d}.dropmax")


def remove_events(folder: Path, first_epoch: int) -> None:
    """Removes the event files that begin at `first_epoch` or later."""
    for file in folder.iterdir():
        # Other writers have the time there, which does not begin with 0, and the host's name.
        epoch = re.fullmatch(r"events\.out\.tfevents\.(0\d{9})\.dropmax", file.name)
        if epoch is not None and int(epoch[1]) >= first_epoch:
            file.unlink()
