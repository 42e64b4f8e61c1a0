from pathlib import Path

from experiments.train.tensorboard import remove_events, write_events
from tests.experiments.results import events_of


def history(epochs: int) -> list[dict[str, float | list[float]]]:
    return [{"epoch": epoch, "loss": [epoch, epoch + 1.0]} for epoch in range(1, epochs + 1)]


def test_each_file_holds_the_epochs_from_its_first(tmp_path: Path) -> None:
    write_events(tmp_path, history(2), 1)
    write_events(tmp_path, history(5), 3)
    assert events_of(tmp_path) == {"loss": {epoch: epoch + 0.5 for epoch in range(1, 6)}}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "events.out.tfevents.0000000001.dropmax",
        "events.out.tfevents.0000000003.dropmax",
    ]


def test_an_epoch_trained_again_replaces_what_was_told(tmp_path: Path) -> None:
    write_events(tmp_path, history(2), 1)
    write_events(tmp_path, history(5), 3)
    remove_events(tmp_path, 3)
    assert set(events_of(tmp_path)["loss"]) == {1, 2}
    write_events(tmp_path, history(3), 3)
    assert set(events_of(tmp_path)["loss"]) == {1, 2, 3}


def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    write_events(tmp_path, history(2), 3)
    write_events(tmp_path, [], 1)
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_stay(tmp_path: Path) -> None:
    names = "1700000000.host", "1700000000.dropmax", "1700000001.gpu.dropmax", "old.dropmax"
    others = {tmp_path / f"events.out.tfevents.{name}" for name in names}
    for other in others:
        other.touch()
    write_events(tmp_path, history(2), 1)
    remove_events(tmp_path, 0)
    assert set(tmp_path.iterdir()) == others
