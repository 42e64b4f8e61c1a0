"""What a run has left in its folder, read back to compare it."""

import json
import struct
from pathlib import Path
from typing import Any

from experiments.data.datasets import Dataset
from experiments.train.checkpoints import Checkpoint, Checkpoints, digest
from experiments.train.config import Config
from experiments.train.steps import programs
from experiments.train.steps.setup import make_setup


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def summary_of(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return values


def numbers_of(folder: Path, config: Config, dataset: Dataset) -> dict[str, Any]:
    """All that must not depend on a run's faults: parameters, metrics, figures.

    The `seconds` of an epoch are left out: they are measured, and no two runs take the same.
    """
    state = newest(folder, config, dataset).state
    return {
        "state": digest(state),
        "metrics": [{**entry, "seconds": None} for entry in metrics_of(folder)],
        "figures": {
            name: value for name, value in summary_of(folder).items() if name.startswith("test_")
        },
    }


def newest(folder: Path, config: Config, dataset: Dataset) -> Checkpoint:
    setup = make_setup(config, len(dataset.train.labels))
    like = programs.abstract_states(setup, config.seeds)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        found = checkpoints.restore(like, _damaged)
    assert found is not None
    return found


def _damaged(line: str) -> None:
    raise AssertionError(line)


def events_of(folder: Path) -> dict[str, dict[int, float]]:
    """Scalars by name and step from all event files: records of length, CRC, protobuf, CRC."""
    from tensorboardX.proto.event_pb2 import Event

    scalars: dict[str, dict[int, float]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        content, place = file.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack("<Q", content[place : place + 8])
            event = Event.FromString(content[place + 12 : place + 12 + length])
            place += length + 16
            for value in event.summary.value:
                steps = scalars.setdefault(value.tag, {})
                assert event.step not in steps, "an epoch is told twice"
                steps[event.step] = value.simple_value
    return scalars


def assert_no_leftovers(folder: Path) -> None:
    hidden = {path.name for path in folder.iterdir() if path.name.startswith(".")}
    assert hidden <= {".lock"}
