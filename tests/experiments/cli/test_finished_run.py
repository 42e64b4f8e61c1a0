import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.train import config
from tests.experiments import runner
from tests.experiments.fake_mnist import write_mnist


class TestFinishedRun:
    @pytest.fixture
    def run(self, finished_run: Path, in_tmp_path: Path) -> Path:
        return Path(shutil.copytree(finished_run, in_tmp_path / "run"))

    def test_is_not_overwritten(self, refused: Callable[..., str], run: Path) -> None:
        message = refused("--savedir=run", "--mode=train", *_data_flags(run))
        assert "run holds a finished run" in message
        for flag in ("--mode=test", "--overwrite", "--savedir"):
            assert flag in message

    def test_unfinished_it_is_not_overwritten_either(
        self, refused: Callable[..., str], run: Path
    ) -> None:
        (run / "summary.json").unlink()
        message = refused("--savedir=run", *_data_flags(run))
        assert "run holds an unfinished run" in message
        assert "--resume" in message

    @pytest.mark.parametrize(
        ("flag", "difference"),
        [
            ("--model=dropmax", "model is softmax, not dropmax"),
            ("--network=cnn", "network is tiny, not cnn"),
            ("--batch_size=4", "batch_size is 8, not 4"),
            ("--num_epochs=7", "num_epochs is 3, not 7"),
            ("--learning_rate=0.1", "learning_rate is 0.001, not 0.1"),
            ("--seed=1", "seeds is [0, 1], not [1]"),
            ("--train_per_class=19", "train_per_class is 20, not 19"),
        ],
    )
    @pytest.mark.parametrize("mode", ["--resume", "--mode=test"])
    def test_of_another_kind_is_refused(
        self, refused: Callable[..., str], run: Path, flag: str, difference: str, mode: str
    ) -> None:
        message = refused("--savedir=run", mode, flag)
        assert f"the run in run is another one: its {difference}" in message

    def test_on_other_data_is_refused(
        self, refused: Callable[..., str], run: Path, tmp_path: Path
    ) -> None:
        write_mnist(tmp_path / "other", train_per_class=120, test_per_class=21)
        message = refused("--savedir=run", "--resume", f"--mnist_path={tmp_path / 'other'}")
        assert "is another one: its data are not the same" in message

    @pytest.mark.parametrize("name", ["checkpoints", "diverged"])
    def test_is_not_overwritten_in_part(
        self, refused: Callable[..., str], run: Path, in_tmp_path: Path, name: str
    ) -> None:
        if (run / name).exists():
            (run / name).rename(in_tmp_path / "elsewhere")
        (run / name).symlink_to(in_tmp_path / "elsewhere")
        message = refused("--savedir=run", "--overwrite", *_data_flags(run))
        assert f"run/{name} is no folder of a run" in message

    @pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl"])
    @pytest.mark.parametrize("content", ["", "{}"])
    def test_with_a_damaged_file_is_tested_again(
        self, run: Path, name: str, content: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        expected = {file: results(run / file) for file in ("summary.json", "metrics.jsonl")}
        (run / name).write_text(content)
        code, _, stderr = runner.run_here(capfd, "--savedir=run", "--resume", *_data_flags(run))
        assert (code, stderr) == (0, "")
        assert {file: results(run / file) for file in expected} == expected

    def test_is_overwritten_when_told_to_and_other_files_stay(
        self,
        run: Path,
        in_tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (run / "notes.txt").write_text("precious")
        arguments = [
            "--batch_size=8",
            "--num_epochs=1",
            "--model=softmax",
            "--network=tiny",
            *_data_flags(run),
        ]
        code, stdout, stderr = runner.run_here(capfd, "--savedir=run", "--overwrite", *arguments)
        assert (code, stderr) == (0, "")
        assert "(200 training examples)" in stdout
        assert (run / "notes.txt").read_text() == "precious"
        assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["25"]


def results(file: Path) -> list[dict[str, object]]:
    """The objects in a file, which holds one JSON value or one per line."""
    text = file.read_text()
    lines = [text] if file.suffix == ".json" else text.splitlines()
    return [json.loads(line) for line in lines]


def _data_flags(run: Path) -> list[str]:
    path = config.read_config(run / "config.json").mnist_path
    return [f"--mnist_path={path}", "--train_per_class=20"]
