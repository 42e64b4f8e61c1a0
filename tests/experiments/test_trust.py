"""Nothing read from disk is run or leads elsewhere, and nobody can connect to a run."""

import ast
import dataclasses
import os
import pickle
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.cli.errors import RunFailedError, UserError
from experiments.data.datasets import Dataset
from experiments.train import loop, run
from experiments.train.config import Config, read_config
from tests.experiments import runner

ROOT = Path(__file__).parents[2]
UNPICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@pytest.fixture
def config(finished_run: Path) -> Config:
    """Three epochs of 25 steps, of two seeds."""
    return dataclasses.replace(read_config(finished_run / "config.json"), network="tiny")


@pytest.fixture(scope="module")
def trained_once() -> dict[str, Path]:
    return {}


@pytest.fixture
def folder(
    config: Config,
    small_data: Dataset,
    tmp_path: Path,
    trained_once: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a finished run, alone in its parent folder."""
    if not trained_once:
        trained_once["run"] = tmp_path_factory.mktemp("trust") / "run"
        run.train(config, small_data, trained_once["run"], save_every=1)
    return Path(shutil.copytree(trained_once["run"], tmp_path / "outer" / "run"))


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A place that nothing may change."""
    return tmp_path / "precious"


def test_no_module_unpickles() -> None:
    files = [*ROOT.glob("dropmax_jax/**/*.py"), *ROOT.glob("experiments/**/*.py")]
    assert len(files) > 40
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not {name.name.split(".")[0] for name in node.names} & UNPICKLING, file
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in UNPICKLING, file
            # numpy.load has the option allow_pickle.
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), file
                assert node.value.value is False, file


class Audit:
    """What Python has done since the start, as the names and arguments of audit events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, tuple[Any, ...]]] = []
        self.is_on = True
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_on and event.startswith(("pickle.", "socket.bind", "open", "os.", "shutil.")):
            self.events.append((event, arguments))

    def named(self, *names: str) -> list[tuple[Any, ...]]:
        return [arguments for event, arguments in self.events if event in names]

    def written(self) -> set[Path]:
        """Files opened for writing, and what was made, renamed, linked or removed."""
        paths = [
            path
            for path, mode, flags in self.named("open")
            if flags & (os.O_WRONLY | os.O_RDWR) and isinstance(path, str | Path)
        ]
        for arguments in self.named("os.rename", "os.link", "os.symlink"):
            paths += arguments[:2]
        for arguments in self.named("os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
            # shutil removes trees beneath an open folder, by a name without a path.
            if os.path.isabs(os.fspath(arguments[0])):
                paths.append(arguments[0])
        paths += [arguments[0] for arguments in self.named("shutil.rmtree")]
        return {Path(os.fspath(path)) for path in paths}


@pytest.fixture
def audit() -> Iterator[Audit]:
    audit = Audit()
    yield audit
    # A hook cannot be removed.
    audit.is_on = False


def test_a_run_unpickles_nothing_from_disk_writes_nowhere_else_and_binds_no_socket(
    config: Config, folder: Path, small_data: Dataset, compilation_cache: Path, audit: Audit
) -> None:
    audit.events.clear()
    run.train(config, small_data, folder, save_every=1, overwrite=True)
    # TensorBoard's writer hands its events from thread to thread as pickles.
    for module, _ in audit.named("pickle.find_class"):
        assert module.split(".")[0] in {"tensorboardX", "copyreg", "builtins"}
    (folder / "summary.json").unlink()
    start = len(audit.events)
    run.train(config, small_data, folder, resume=True)
    run.test(config, small_data, folder)
    assert "pickle.find_class" not in {event for event, _ in audit.events[start:]}
    assert audit.named("socket.bind") == []
    written = {path for path in audit.written() if not path.is_relative_to(compilation_cache)}
    assert folder / "summary.json" in written
    elsewhere = {path for path in written if not path.is_relative_to(folder)}
    assert elsewhere <= {Path(os.devnull)}
    # Python itself does not write the checkpoints.
    assert list(folder.parent.iterdir()) == [folder]


def test_the_audit_sees_unpickling(audit: Audit) -> None:
    pickle.loads(pickle.dumps(Path("a")))
    assert audit.named("pickle.find_class")


@pytest.mark.skipif(not os.path.exists("/proc/self/net/tcp"), reason="needs Linux")
def test_during_a_run_no_socket_listens(
    config: Config, small_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No C++ library listens either."""
    found: list[set[str]] = []
    original = loop.Trainer._end_epoch

    def look(trainer: Any, progress: Any) -> None:
        found.append(listening())
        original(trainer, progress)

    with socket.create_server(("127.0.0.1", 0)) as server:
        assert listening() == {f"0100007F:{server.getsockname()[1]:04X}"}
    monkeypatch.setattr(loop.Trainer, "_end_epoch", look)
    run.train(config, small_data, tmp_path)
    assert found == [set()] * 3


def listening() -> set[str]:
    """The addresses at which this process listens for TCP, in hexadecimal."""
    own = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            own.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        if os.path.exists(f"/proc/self/net/{name}")
        for line in Path(f"/proc/self/net/{name}").read_text().splitlines()[1:]
    ]
    return {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own}


def test_links_in_the_place_of_a_runs_files_are_replaced_and_not_followed(
    config: Config, folder: Path, small_data: Dataset, precious: Path
) -> None:
    precious.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file() and path.name != ".lock"]:
        path.rename(precious / path.name)
        path.symlink_to(precious / path.name)
    before = runner.files_under(precious)
    assert len(before) > 4
    run.train(config, small_data, folder, save_every=1, overwrite=True)
    assert runner.files_under(precious) == before
    assert not any(path.is_symlink() for path in folder.rglob("*"))


@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_a_link_in_the_place_of_the_lock_is_not_followed(
    config: Config, folder: Path, small_data: Dataset, precious: Path, how: str
) -> None:
    precious.write_text("precious")
    (folder / ".lock").unlink(missing_ok=True)
    (folder / ".lock").symlink_to(precious)
    with pytest.raises(UserError, match=f"cannot write to {folder}"):
        run.train(config, small_data, folder, **{how: True})
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_a_link_in_the_place_of_the_checkpoints_is_not_followed(
    config: Config, folder: Path, small_data: Dataset, precious: Path, how: str
) -> None:
    (folder / "summary.json").unlink()
    (folder / "checkpoints").rename(precious)
    (folder / "checkpoints").symlink_to(precious)
    # The run must train again and save.
    shutil.rmtree(precious / "75")
    before = runner.files_under(precious)
    with pytest.raises((UserError, RunFailedError), match="link"):
        run.train(config, small_data, folder, **{how: True})
    assert runner.files_under(precious) == before


def test_a_link_in_the_place_of_a_damaged_checkpoint_is_not_followed(
    config: Config, folder: Path, small_data: Dataset, precious: Path
) -> None:
    (folder / "summary.json").unlink()
    (folder / "checkpoints" / "75").rename(precious)
    (folder / "checkpoints" / "75").symlink_to(precious)
    (precious / "sha256.json").write_text('{"no such file": ""}')
    before = runner.files_under(precious)
    with pytest.raises((UserError, RunFailedError), match="link"):
        run.train(config, small_data, folder, resume=True)
    assert runner.files_under(precious) == before
