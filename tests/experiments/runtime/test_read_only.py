"""Runs on read-only media can be tested, looked into and used."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from experiments.cli.errors import UserError
from experiments.data.datasets import Dataset
from experiments.runtime.files import is_read_only, locked_folder, shared_folder
from experiments.train import run
from tests.experiments.conftest import MakeConfig
from tests.experiments.drawn import draw
from tests.experiments.runner import ROOT, Outcome, environment, files_under

COMMAND = (sys.executable, "-m", "tests.experiments.read_only_command")
# This gives a process its own file system, if the system lets a user have one.
OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
MOUNT = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


@pytest.fixture(scope="module")
def finished(
    small_data: Dataset, small_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of DropMax with the network `tiny`."""
    folder = tmp_path_factory.mktemp("read_only") / "run"
    config = small_config("dropmax", batch_size=10, num_epochs=2)
    run.train(config, small_data, folder, save_every=1)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(params=["mounted", pytest.param("played", marks=pytest.mark.slow)])
def read_only(request: pytest.FixtureRequest, folder: Path, in_tmp_path: Path) -> "ReadOnly":
    """Mounted if the system lets us, and simulated if not; a slow test also simulates it."""
    is_mounted = request.param == "mounted" and can_mount(folder)
    return ReadOnly(folder, in_tmp_path, is_mounted)


def can_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = [*OWN_MOUNTS, MOUNT, str(folder), "sh", "-c", '! touch "$0/new"', str(folder)]
    return subprocess.run(tried, capture_output=True).returncode == 0


class ReadOnly:
    """A run's folder on read-only media, and commands in a folder that can be written."""

    def __init__(self, folder: Path, here: Path, is_mounted: bool) -> None:
        self.folder, self.here, self.is_mounted = folder, here, is_mounted

    def __call__(self, module: str, *arguments: object) -> Outcome:
        mount = [*OWN_MOUNTS, MOUNT, str(self.folder)] if self.is_mounted else []
        played = "-" if self.is_mounted else str(self.folder)
        done = subprocess.run(
            [*mount, *COMMAND, played, module, *map(str, arguments)],
            cwd=self.here,
            env={**environment(1), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("damage", ["none", "no lock", "a damaged checkpoint"])
def test_a_run_is_tested_and_left_as_it_is(read_only: ReadOnly, damage: str) -> None:
    folder = read_only.folder
    (folder / ".dropmax_unfinished.x").write_text("left by a run that was killed")
    (folder / "checkpoints" / "50.orbax-checkpoint-tmp").mkdir()
    if damage == "no lock":
        (folder / ".lock").unlink()
    if damage == "a damaged checkpoint":
        (folder / "checkpoints" / "40" / "sha256.json").write_text('{"no such file": ""}')
    before = files_under(folder)
    code, stdout, stderr = read_only("mnist", "--mode=test", f"--savedir={folder}")
    assert (code, stderr) == (0, "")
    assert "test error" in stdout
    assert f"\n{folder} is read-only: nothing was written\n" in stdout
    assert ("the checkpoint of step 40 is damaged" in stdout) == (damage[0] == "a")
    assert files_under(folder) == before
    assert (folder / ".lock").exists() == (damage != "no lock")


def test_the_masks_are_drawn_into_the_current_folder(read_only: ReadOnly) -> None:
    before = files_under(read_only.folder)
    code, stdout, stderr = read_only("masks", f"--savedir={read_only.folder}")
    assert (code, stderr) == (0, "")
    picture = read_only.here / "masks.png"
    assert stdout == f"wrote {picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert files_under(read_only.folder) == before


@pytest.mark.slow
def test_the_figures_are_drawn_into_a_folder_of_the_current_one(read_only: ReadOnly) -> None:
    before = files_under(read_only.folder)
    code, stdout, stderr = read_only("figures.__main__", f"--run={read_only.folder}")
    assert (code, stderr) == (0, "")
    assert stdout.endswith("files: figures\n")
    assert (read_only.here / "figures" / "retained.png").read_bytes().startswith(b"\x89PNG")
    assert files_under(read_only.folder) == before


def test_digits_are_predicted(read_only: ReadOnly) -> None:
    Image.fromarray(draw(3)).save(read_only.here / "3.png")
    before = files_under(read_only.folder)
    code, stdout, stderr = read_only("predict", f"--run={read_only.folder}", "3.png")
    assert (code, stderr) == (0, "")
    assert "3.png: " in stdout
    assert files_under(read_only.folder) == before


def test_training_is_refused_in_a_line(read_only: ReadOnly) -> None:
    before = files_under(read_only.folder)
    arguments = (f"--savedir={read_only.folder}", "--resume")
    code, _, stderr = read_only("mnist", *arguments)
    assert code == 2
    reason = os.strerror(errno.EROFS)
    assert stderr == (
        f"error: cannot write to {read_only.folder}: {reason}; pass another --savedir\n"
    )
    assert files_under(read_only.folder) == before


class TestReadFolder:
    def test_is_shared_by_readers_and_kept_from_runs(self, tmp_path: Path) -> None:
        (tmp_path / ".lock").touch()
        in_use = f"another run is using {tmp_path}"
        with (
            shared_folder(tmp_path),
            shared_folder(tmp_path),
            pytest.raises(UserError, match=in_use),
        ):
            locked_folder(tmp_path).__enter__()
        with locked_folder(tmp_path), pytest.raises(UserError, match=in_use):
            shared_folder(tmp_path).__enter__()

    def test_without_a_lock_gets_none(self, tmp_path: Path) -> None:
        with shared_folder(tmp_path):
            assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
    def test_whose_lock_is_none_is_read_all_the_same(self, tmp_path: Path, kind: str) -> None:
        lock = tmp_path / ".lock"
        if kind == "link":
            lock.symlink_to("x")
        elif kind == "pipe":
            os.mkfifo(lock)
        else:
            lock.mkdir()
        with shared_folder(tmp_path):
            pass

    def test_on_a_file_system_without_locks_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import fcntl

        def flock(*_: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        (tmp_path / ".lock").touch()
        monkeypatch.setattr(fcntl, "flock", flock)
        with shared_folder(tmp_path):
            pass


def test_a_folder_that_can_be_written_is_not_read_only(tmp_path: Path) -> None:
    assert not is_read_only(tmp_path)
    assert is_read_only(tmp_path / "none")
