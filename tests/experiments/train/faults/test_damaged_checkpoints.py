import shutil
from pathlib import Path

import pytest

from experiments.cli.errors import UserError
from experiments.data.datasets import Dataset
from experiments.train import run
from experiments.train.config import Config
from tests.experiments import runner
from tests.experiments.results import events_of, numbers_of, summary_of


def damage(folder: Path, how: str) -> None:
    """Damages the parameters that a checkpoint holds, or the list of them."""
    files = sorted((folder / "state" / "d").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(files[-1].read_bytes())
    if how == "a file missing":
        shutil.rmtree(folder / "state" / "d")
    elif how == "truncated":
        files[-1].write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        files[-1].write_bytes(content)


class TestDamagedCheckpoint:
    @pytest.fixture
    def folder(self, dropmax_run: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(dropmax_run, tmp_path / "run"))

    @pytest.mark.parametrize("how", ["truncated", "a byte flipped", "a file missing"])
    def test_goes_on_from_the_one_before(
        self,
        dropmax_config: Config,
        dropmax_run: Path,
        small_data: Dataset,
        folder: Path,
        capfd: pytest.CaptureFixture[str],
        how: str,
    ) -> None:
        (folder / "summary.json").unlink()
        damage(folder / "checkpoints" / "100", how)
        run.train(dropmax_config, small_data, folder, save_every=1, resume=True)
        assert numbers_of(folder, dropmax_config, small_data) == numbers_of(
            dropmax_run, dropmax_config, small_data
        )
        stderr = capfd.readouterr().err
        assert stderr.startswith("dropmax, tiny: the checkpoint of step 100 is damaged (")
        assert stderr.endswith("): left out\n")
        assert stderr.count("\n") == 1
        assert set(events_of(folder)["train_loss"]) == {1, 2, 3, 4}

    def test_in_a_process_of_its_own_no_thread_tells_of_it(self, folder: Path) -> None:
        (folder / "summary.json").unlink()
        damage(folder / "checkpoints" / "100", "a file missing")
        damage(folder / "checkpoints" / "75", "truncated")
        code, stdout, stderr = runner.run_apart("--resume", f"--savedir={folder}")
        assert code == 0
        assert "test error" in stdout
        lines = stderr.splitlines()
        assert [line.split(" is damaged")[0] for line in lines] == [
            "dropmax, tiny: the checkpoint of step 100",
            "dropmax, tiny: the checkpoint of step 75",
        ]
        # The events are now in one file, where they were in two.
        assert set(events_of(folder)["train_loss"]) == {1, 2, 3, 4}

    def test_nor_does_asyncio_where_there_are_no_digests(self, folder: Path) -> None:
        """The run was killed before it wrote them, so that orbax reads the damaged file."""
        (folder / "summary.json").unlink()
        newest = folder / "checkpoints" / "100"
        (newest / "sha256.json").unlink()
        manifest = newest / "state" / "manifest.ocdbt"
        manifest.write_bytes(manifest.read_bytes()[:-10])
        code, _, stderr = runner.run_apart("--resume", f"--savedir={folder}")
        assert code == 0
        (line,) = stderr.splitlines()
        assert line.startswith("dropmax, tiny: the checkpoint of step 100 is damaged")

    def test_testing_tells_of_it_and_keeps_the_summary(
        self,
        dropmax_config: Config,
        dropmax_run: Path,
        small_data: Dataset,
        folder: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """The figures of three epochs do not pass for those of four."""
        damage(folder / "checkpoints" / "100", "truncated")
        summary = run.test(dropmax_config, small_data, folder)
        stdout = capfd.readouterr().out
        assert "the checkpoint of step 100 is damaged" in stdout
        assert "step 75 of 100" in stdout
        assert summary["test_nll"] != summary_of(dropmax_run)["test_nll"]
        assert summary_of(folder) == summary_of(dropmax_run)

    @pytest.mark.parametrize("flag", ["--resume", "--mode=test"])
    def test_all_damaged_is_an_error(
        self, folder: Path, capfd: pytest.CaptureFixture[str], flag: str
    ) -> None:
        for checkpoint in (folder / "checkpoints").iterdir():
            damage(checkpoint, "truncated")
        (folder / "summary.json").unlink()
        code, _, stderr = runner.run_here(capfd, f"--savedir={folder}", flag)
        assert code == 2
        assert "whole: train again into another --savedir" in stderr.splitlines()[-1]

    def test_none_is_an_error_when_testing(
        self, dropmax_config: Config, small_data: Dataset, folder: Path
    ) -> None:
        with pytest.raises(UserError, match=r"no run in .*: train one first"):
            run.test(dropmax_config, small_data, folder / "none")
        shutil.rmtree(folder / "checkpoints")
        with pytest.raises(UserError, match=r"no checkpoint in .*: train first"):
            run.test(dropmax_config, small_data, folder)
