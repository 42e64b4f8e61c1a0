import shutil
import threading
from pathlib import Path

import jax
import pytest

from experiments.data.datasets import Dataset
from experiments.train import run
from experiments.train.config import read_config
from experiments.train.summary import result_line
from tests.conftest import MAPPINGS, count_mappings
from tests.experiments import runner
from tests.experiments.results import metrics_of, summary_of


class TestCommand:
    """The command's output; testing reproduces what training found."""

    def test_trains_lenet_and_tells_what_it_found(
        self, mnist_folder: Path, in_tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["--train_per_class=20", "--batch_size=8", "--num_epochs=2"]
        code, stdout, stderr = runner.run_here(capfd, f"--mnist_path={mnist_folder}", *arguments)
        assert (code, stderr) == (0, "")
        folder = in_tmp_path / "results" / "dropmax"
        found = summary_of(folder)
        error = found["test_error_percent"][0]
        assert stdout.splitlines() == [
            f"data: digits from {mnist_folder}, in file order; it is not MNIST, whose figures do "
            "not compare",
            f"dropmax, lenet, digits (200 training examples): test error {error:.2f} % (seed 0)",
            "files: results/dropmax",
        ]
        assert len(metrics_of(folder)) == 2
        assert runner.run_here(capfd, "--mode=test").code == 0
        assert summary_of(folder) == found

    def test_testing_reproduces_the_figures(
        self, finished_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
        for name in ("summary.json", "learning_curves.png"):
            (folder / name).unlink()
        code, stdout, stderr = runner.run_here(capfd, "--mode=test", f"--savedir={folder}")
        assert (code, stderr) == (0, "")
        assert summary_of(folder) == summary_of(finished_run)
        assert (folder / "learning_curves.png").exists()
        assert stdout.splitlines()[-2].endswith("(2 seeds)")
        assert metrics_of(folder) == metrics_of(finished_run)

    def test_resuming_a_finished_run_changes_nothing(
        self, finished_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
        (folder / "summary.json").unlink()
        before = runner.files_under(folder)
        code, _, stderr = runner.run_here(capfd, "--resume", f"--savedir={folder}")
        assert (code, stderr) == (0, "")
        assert summary_of(folder) == summary_of(finished_run)
        after = runner.files_under(folder)
        del after["summary.json"], after["learning_curves.png"], before["learning_curves.png"]
        assert after == before

    def test_a_home_folder_may_be_written_as_tilde(
        self,
        finished_run: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        shutil.copytree(finished_run, tmp_path / "run")
        monkeypatch.setenv("HOME", str(tmp_path))
        code, stdout, _ = runner.run_here(capfd, "--mode=test", "--savedir=~/run")
        assert code == 0
        assert f"files: {tmp_path / 'run'}" in stdout


def test_a_run_in_a_thread_of_its_own_needs_no_signals(
    finished_run: Path, small_data: Dataset, tmp_path: Path
) -> None:
    """A notebook's or a test's thread cannot set signal handlers."""
    config = read_config(finished_run / "config.json")
    thread = threading.Thread(target=run.train, args=(config, small_data, tmp_path))
    thread.start()
    thread.join(timeout=120)
    assert summary_of(tmp_path)["test_nll"] == summary_of(finished_run)["test_nll"]


@pytest.mark.skipif(not MAPPINGS.exists(), reason="the limit is Linux's")
def test_many_runs_in_a_process_do_not_use_up_its_memory_mappings(
    finished_run: Path, small_data: Dataset, tmp_path: Path
) -> None:
    """The table of three sizes takes 51 runs; JAX ends a process that runs out of mappings."""
    config = read_config(finished_run / "config.json")
    jax.clear_caches()
    before = count_mappings()
    run.train_missing(config, small_data, tmp_path / "run")
    # The run's programs had some 2,000 mappings.
    assert count_mappings() < before + 500


@pytest.mark.parametrize(
    ("errors", "ending"),
    [
        ([3.456], "(1,000 training examples): test error 3.46 % (seed 7)"),
        ([3.0, 4.0], "(1,000 training examples): test error 3.50 % ± 6.35 (2 seeds)"),
    ],
)
def test_result_line(errors: list[float], ending: str) -> None:
    line = result_line(
        {
            "model": "softmax",
            "network": "cnn",
            "dataset": "mnist",
            "num_train": 1000,
            "seeds": list(range(7, 7 + len(errors))),
            "test_error_percent": errors,
        }
    )
    assert line == f"softmax, cnn, mnist {ending}"
