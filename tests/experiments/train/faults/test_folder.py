import contextlib
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.cli.errors import RunFailedError, UserError
from experiments.data.datasets import Dataset
from experiments.runtime.files import locked_folder
from experiments.train import loop, run
from experiments.train.config import Config, read_config
from experiments.train.folder import check_folder, remove_run
from tests.experiments import runner
from tests.experiments.results import assert_no_leftovers, numbers_of


class TestFolder:
    def test_of_a_run_under_way_is_refused_to_others(
        self, finished_run: Path, small_data: Dataset, tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
        before = runner.files_under(folder)
        config = read_config(folder / "config.json")
        with locked_folder(folder):
            for how in ({"overwrite": True}, {"resume": True}):
                with pytest.raises(UserError, match="another run is using"):
                    run.train(config, small_data, folder, **how)
            with pytest.raises(UserError, match="another run is using"):
                run.test(config, small_data, folder)
            code, _, stderr = runner.run_apart("--mode=test", f"--savedir={folder}")
            assert code == 2
            assert stderr.count("\n") == 1
        assert runner.files_under(folder) == before

    def test_removed_during_the_run_ends_it_with_a_line(
        self,
        dropmax_config: Config,
        small_data: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        folder = tmp_path / "run"
        original = loop.Trainer._end_epoch

        def remove_first(trainer: Any, progress: Any) -> None:
            shutil.rmtree(folder)
            original(trainer, progress)

        monkeypatch.setattr(loop.Trainer, "_end_epoch", remove_first)
        with pytest.raises(RunFailedError, match=str(folder)) as caught:
            run.train(dropmax_config, small_data, folder, save_every=1)
        assert "\n" not in str(caught.value)

    def test_on_a_full_disk_ends_the_run_and_keeps_the_earlier_state(
        self,
        dropmax_config: Config,
        dropmax_run: Path,
        small_data: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from experiments.runtime import files

        writes = 0
        original = files.replacing

        @contextlib.contextmanager
        def full(path: Path) -> Iterator[Path]:
            nonlocal writes
            writes += path.name == "metrics.jsonl"
            if writes == 3:
                raise OSError(28, "No space left on device", str(path))
            with original(path) as temporary:
                yield temporary

        monkeypatch.setattr(files, "replacing", full)
        with pytest.raises(RunFailedError, match="No space left on device"):
            run.train(dropmax_config, small_data, tmp_path, save_every=1)
        monkeypatch.undo()
        assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"25", "50"}
        run.train(dropmax_config, small_data, tmp_path, save_every=1, resume=True)
        assert numbers_of(tmp_path, dropmax_config, small_data) == numbers_of(
            dropmax_run, dropmax_config, small_data
        )

    def test_on_a_disk_that_is_full_sooner_or_later_is_gone_on_with(
        self, dropmax_config: Config, dropmax_run: Path, small_data: Dataset, tmp_path: Path
    ) -> None:
        """The disk is full for the configuration, then for the first checkpoint, written in C++."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        for largest in (100, 1_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
            try:
                with pytest.raises(RunFailedError, match="cannot .* File too large") as caught:
                    run.train(dropmax_config, small_data, tmp_path, save_every=1, resume=True)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            assert "\n" not in str(caught.value)
            assert not (tmp_path / "summary.json").exists()
            assert_no_leftovers(tmp_path)
        run.train(dropmax_config, small_data, tmp_path, save_every=1, resume=True)
        assert numbers_of(tmp_path, dropmax_config, small_data) == numbers_of(
            dropmax_run, dropmax_config, small_data
        )

    def test_half_removed_is_not_taken_for_another_run(
        self, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A kill while a run is removed must leave what is still recognised as a run."""
        folder = Path(shutil.copytree(finished_run, tmp_path / "run"))

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_run(folder)
        monkeypatch.undo()
        with pytest.raises(UserError, match="unfinished run"):
            check_folder(folder, resume=False, overwrite=False)
