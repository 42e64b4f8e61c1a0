import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from experiments.cli.errors import UserError
from experiments.runtime.files import locked_folder, read_json, replacing, write_json, write_text
from tests.experiments.runner import ROOT


class TestReplacing:
    def test_puts_the_new_content_in_place(self, tmp_path: Path) -> None:
        path = tmp_path / "file.txt"
        write_text(path, "old")
        with replacing(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
            # Programs that tell a format by its suffix still can.
            assert temporary.suffix == ".txt"
        assert path.read_text() == "new"
        assert list(tmp_path.iterdir()) == [path]

    def test_keeps_the_old_content_after_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        write_text(path, "old")

        def fail() -> None:
            with replacing(path) as temporary:
                temporary.write_text("half")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
    def test_gives_the_permissions_of_any_new_file(self, tmp_path: Path, mask: int) -> None:
        before = os.umask(mask)
        try:
            write_text(tmp_path / "ours", "")
            (tmp_path / "plain").touch()
        finally:
            assert os.umask(before) == mask
        assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_in_a_folder_that_is_gone_raises(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            write_text(tmp_path / "gone" / "file", "")


class TestJson:
    def test_comes_back(self, tmp_path: Path) -> None:
        values = {"a": [1, 2.5, None, True], "ü": {"±": "text"}}
        write_json(tmp_path / "file.json", values)
        assert read_json(tmp_path / "file.json") == values
        assert (tmp_path / "file.json").read_bytes().endswith(b"}\n")

    def test_that_cannot_be_written_leaves_the_old(self, tmp_path: Path) -> None:
        write_json(tmp_path / "file.json", 1)
        with pytest.raises(TypeError):
            write_json(tmp_path / "file.json", {"a": object()})
        assert read_json(tmp_path / "file.json") == 1

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1,]", b"nonsense"])
    def test_that_is_none_is_a_mistake_of_the_users(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "file.json").write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read .*file\.json"):
            read_json(tmp_path / "file.json")

    def test_that_is_missing_or_a_folder(self, tmp_path: Path) -> None:
        for path in (tmp_path / "missing", tmp_path):
            with pytest.raises(UserError, match="cannot read"):
                read_json(path)


class TestLockedFolder:
    def test_is_made_and_keeps_others_out_until_the_end(self, tmp_path: Path) -> None:
        folder = tmp_path / "a" / "b"
        with locked_folder(folder):
            assert folder.is_dir()
            with pytest.raises(UserError, match=f"another run is using {folder}"):
                locked_folder(folder).__enter__()
        with locked_folder(folder):
            pass

    def test_is_free_after_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(RuntimeError), locked_folder(tmp_path):
            raise RuntimeError
        with locked_folder(tmp_path):
            pass

    def test_keeps_other_processes_out_until_they_are_killed(self, tmp_path: Path) -> None:
        code = (
            "import pathlib, sys, time\n"
            "from experiments.runtime.files import locked_folder\n"
            "with locked_folder(pathlib.Path(sys.argv[1])):\n"
            "    print('locked', flush=True)\n"
            "    time.sleep(100)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            with pytest.raises(UserError, match="another run"):
                locked_folder(tmp_path).__enter__()
            process.send_signal(signal.SIGKILL)
            process.wait()
        with locked_folder(tmp_path):
            pass

    def test_is_rid_of_what_a_killed_run_left_and_of_nothing_else(self, tmp_path: Path) -> None:
        """The run was killed while it wrote a file, and while it wrote TensorBoard's events."""
        kept = {"metrics.jsonl", ".metrics.jsonl.swp", ".dropmax_unfinished", ".events.d"}
        for name in kept:
            (tmp_path / name).write_text("precious")
        other = tmp_path / "other"
        other.mkdir()
        (other / "file").write_text("precious")
        code = (
            "import os, pathlib, signal, sys, tensorboardX\n"
            "from experiments.runtime import files\n"
            "from experiments.train import tensorboard\n"
            "folder = pathlib.Path(sys.argv[1])\n"
            "(folder / '.dropmax_unfinished.link').symlink_to(folder / 'other')\n"
            "def kill(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
            "tensorboardX.FileWriter.add_summary = kill\n"
            "with files.replacing(folder / 'metrics.jsonl') as temporary:\n"
            "    temporary.write_text('half')\n"
            "    tensorboard.write_events(folder, [{'epoch': 1, 'loss': 1.0}], 1)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
        assert done.returncode == -signal.SIGKILL
        assert len(list(tmp_path.iterdir())) == len(kept) + 1 + 3
        with locked_folder(tmp_path):
            found = {path.name for path in tmp_path.iterdir()} - {".lock"}
        assert found == kept | {"other"}
        for path in (*(tmp_path / name for name in kept), other / "file"):
            assert path.read_text() == "precious"

    def test_in_use_keeps_what_is_unfinished(self, tmp_path: Path) -> None:
        with locked_folder(tmp_path), replacing(tmp_path / "file") as temporary:
            with pytest.raises(UserError, match="another run"):
                locked_folder(tmp_path).__enter__()
            temporary.write_text("new")
        assert (tmp_path / "file").read_text() == "new"

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
            (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
            (OSError("no number"), "no number"),
            (NotImplementedError("no locks here"), "no locks here"),
        ],
        ids=str,
    )
    def test_that_cannot_be_locked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
    ) -> None:
        def acquire(_: filelock.BaseFileLock) -> None:
            raise error

        monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
        with pytest.raises(UserError) as caught:
            locked_folder(tmp_path).__enter__()
        assert str(caught.value) == (
            f"cannot write to {tmp_path}: {reason}; pass another --savedir"
        )


def test_metrics_are_valid_json_lines(finished_run: Path) -> None:
    for line in (finished_run / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
