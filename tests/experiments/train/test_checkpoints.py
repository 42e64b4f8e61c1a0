import errno
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments.cli.errors import RunFailedError, UserError
from experiments.train.checkpoints import Checkpoint, Checkpoints, _reason, digest


def checkpoint(step: int) -> Checkpoint:
    rng = np.random.default_rng(step)
    state = {
        "weights": rng.normal(size=(3, 4)).astype(np.float32),
        "nested": (
            rng.integers(0, 9, 5).astype(np.int32),
            {"scalar": np.asarray(step, np.float32)},
        ),
        "low": np.asarray(jnp.asarray(rng.normal(size=4), jnp.bfloat16)),
    }
    return Checkpoint(step, state, {"history": [{"epoch": 1, "loss": 0.1 * step}], "seconds": 0.5})


LIKE = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), checkpoint(0).state)


def same(one: Checkpoint, other: Checkpoint) -> bool:
    return (
        one.step == other.step
        and digest(one.state) == digest(other.state)
        and one.progress == other.progress
    )


def restored(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    warnings: list[str] = []
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(LIKE, warnings.append), warnings


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(checkpoint(1))
        checkpoints.save(checkpoint(2))
    return folder


@pytest.fixture
def folder(two_steps: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two_steps, tmp_path / "checkpoints"))


def test_a_state_comes_back_bit_for_bit(folder: Path) -> None:
    found, warnings = restored(folder)
    assert found is not None
    assert same(found, checkpoint(2))
    assert warnings == []
    leaves, wanted = jax.tree.leaves(found.state), jax.tree.leaves(checkpoint(2).state)
    assert [leaf.dtype for leaf in leaves] == [leaf.dtype for leaf in wanted]
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(LIKE)]
    found_leaves = jax.tree_util.tree_leaves_with_path(found.state)
    assert [jax.tree_util.keystr(path) for path, _ in found_leaves] == names


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert restored(tmp_path / "checkpoints") == (None, [])


def test_a_state_that_cannot_be_saved_is_told_of_and_the_others_stay(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise ValueError("RESOURCE_EXHAUSTED: no space left\nand more")

    with Checkpoints(folder) as checkpoints:
        monkeypatch.setattr(ocp.CheckpointManager, "save", full)
        with pytest.raises(RunFailedError) as caught:
            checkpoints.save(checkpoint(3))
    assert str(caught.value) == (
        f"cannot save the checkpoint of step 3 in {folder}: RESOURCE_EXHAUSTED: no space left"
    )
    found, _ = restored(folder)
    assert found is not None
    assert same(found, checkpoint(2))


def test_a_save_that_failed_and_still_writes_does_not_stop_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = folder / "9.orbax-checkpoint-tmp" / "state.orbax-checkpoint-tmp"
    leftover.mkdir(parents=True)
    remove, failures = shutil.rmtree, [OSError(errno.ENOTEMPTY, "Directory not empty")]

    def rmtree(path: Any, *args: Any, **options: Any) -> None:
        if failures and "9.orbax-checkpoint-tmp" in str(path):
            raise failures.pop()
        remove(path, *args, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(checkpoint(9))
    assert not failures
    found, warnings = restored(folder)
    assert found is not None
    assert same(found, checkpoint(9))
    assert not warnings
    assert not leftover.exists()


def test_of_a_long_error_the_reason_is_told() -> None:
    """Tensorstore says it somewhere in an account of all that it was about to do."""
    full = os.strerror(errno.ENOSPC)
    assert _reason(OSError("a" * 500 + f"[OS error 28: {full}]" + "b" * 500)) == full
    assert _reason(ValueError("no\nmore")) == "no"
    assert len(_reason(ValueError("a" * 500))) < 210


def test_of_an_error_in_saving_the_threads_of_orbax_tell_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On a full disk, tensorstore's threads print a traceback for each of the other files."""
    shown: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", shown.append)

    class Loud:
        def __del__(self) -> None:
            raise RuntimeError("Event loop is closed")

    def tell() -> None:
        Loud().__del__  # noqa: B018 - it dies, and what its end raises is unraisable

    def full(*_: object, **__: object) -> None:
        thread = threading.Thread(target=tell)
        thread.start()
        thread.join()
        raise ValueError("RESOURCE_EXHAUSTED: no space left")

    with Checkpoints(folder) as checkpoints:
        monkeypatch.setattr(ocp.CheckpointManager, "save", full)
        with pytest.raises(RunFailedError, match="no space left"):
            checkpoints.save(checkpoint(3))
    tell()
    assert len(shown) == 1, "the main thread's own are told"


def test_only_the_newest_three_are_kept(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        for step in (3, 5, 8, 13):
            checkpoints.save(checkpoint(step))
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [5, 8, 13]


def test_a_step_that_is_there_is_not_written_again(folder: Path) -> None:
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(checkpoint(2)._replace(progress={"other": 1}))
    found, _ = restored(folder)
    assert found is not None
    assert found.progress == checkpoint(2).progress


def files_of(step_folder: Path) -> list[Path]:
    return sorted(path for path in step_folder.rglob("*") if path.is_file())


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


DAMAGES = [truncate, empty, flip_a_byte, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_of_any_file_damaged_the_state_before_is_restored(
    two_steps: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    names = [path.relative_to(two_steps / "2") for path in files_of(two_steps / "2")]
    assert len(names) > 5
    for number, name in enumerate(names):
        folder = Path(shutil.copytree(two_steps, tmp_path / str(number)))
        damage(folder / "2" / name)
        found, warnings = restored(folder)
        assert found is not None, name
        if name.name == "sha256.json" and damage is Path.unlink:
            # This is as after a kill between the state and the digests.
            assert same(found, checkpoint(2))
            continue
        assert same(found, checkpoint(1)), name
        assert len(warnings) == 1, name
        assert warnings[0].startswith("the checkpoint of step 2 is damaged ("), name
        assert "\n" not in warnings[0], name
        if name.name != "sha256.json":
            what = "is missing" if damage is Path.unlink else "has changed"
            assert warnings[0].endswith(f"({name} {what}): left out")
    # Orbax and its threads print nothing about it.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_digests_of_files_nothing_false_is_restored(
    two_steps: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """The state before is restored, with a warning, unless the damage did no harm."""
    names = [path.relative_to(two_steps / "2") for path in files_of(two_steps / "2")]
    harmed = 0
    for number, name in enumerate(names):
        if name.name == "sha256.json":
            continue
        folder = Path(shutil.copytree(two_steps, tmp_path / str(number)))
        (folder / "2" / "sha256.json").unlink()
        damage(folder / "2" / name)
        found, warnings = restored(folder)
        assert found is not None, name
        harmed += not same(found, checkpoint(2))
        assert same(found, checkpoint(1 if warnings else 2)), name
    assert harmed >= 2


def test_a_changed_number_in_the_progress_is_damage(folder: Path) -> None:
    (folder / "2" / "sha256.json").unlink()
    (file,) = (path for path in files_of(folder / "2") if b"history" in path.read_bytes())
    file.write_bytes(file.read_bytes().replace(b"0.2", b"0.3"))
    found, warnings = restored(folder)
    assert found is not None
    assert same(found, checkpoint(1))
    assert len(warnings) == 1


def test_damaged_checkpoints_are_removed_and_can_be_written_again(folder: Path) -> None:
    for path in files_of(folder / "2"):
        truncate(path)
    with Checkpoints(folder) as checkpoints:
        checkpoints.restore(LIKE, lambda line: None)
        checkpoints.save(checkpoint(2))
    found, warnings = restored(folder)
    assert found is not None
    assert same(found, checkpoint(2))
    assert warnings == []


def test_all_damaged_is_an_error_and_removes_nothing(folder: Path) -> None:
    for step in ("1", "2"):
        for path in files_of(folder / step):
            truncate(path)
    before = files_of(folder)
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole: train again into another"):
        restored(folder)
    assert files_of(folder) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {**state, "weights": np.zeros((4, 3), np.float32)},
        lambda state: {**state, "more": np.zeros(2, np.float32)},
        lambda state: {name: leaf for name, leaf in state.items() if name != "low"},
    ],
    ids=["other shape", "one array more", "one array less"],
)
def test_a_state_of_another_structure_is_refused(
    folder: Path, change: Callable[[Any], Any]
) -> None:
    with Checkpoints(folder) as checkpoints, pytest.raises(UserError, match="is whole"):
        checkpoints.restore(change(checkpoint(2).state), lambda line: None)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: {"b": tree["a"]},
        lambda tree: {"a": tree["a"].reshape(2, 2)},
        lambda tree: {"a": tree["a"].view(np.int32)},
        lambda tree: {"a": -tree["a"]},
        lambda tree: {"a": tree["a"][::-1]},
        lambda tree: {"a": (tree["a"],)},
    ],
    ids=["name", "shape", "type", "sign of zero", "order", "structure"],
)
def test_digest_tells_trees_apart(change: Callable[[Any], Any]) -> None:
    tree = {"a": np.array([0.0, 1.0, 2.0, 3.0], np.float32)}
    assert digest(change(tree)) != digest(tree)
    assert digest({"a": tree["a"].copy()}) == digest(tree)


def test_orbax_is_told_nothing_that_needs_unpickling(folder: Path) -> None:
    (about,) = (path for path in files_of(folder / "2") if b"history" in path.read_bytes())
    assert json.loads(about.read_text())["digest"]
    pickled = [path for path in files_of(folder) if path.read_bytes()[:1] == b"\x80"]
    assert pickled == []
