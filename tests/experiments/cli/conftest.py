from collections.abc import Callable
from pathlib import Path

import pytest

from tests.experiments import runner
from tests.experiments.runner import files_under


@pytest.fixture
def refused(in_tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a mistaken command, which must leave no trace; returns its error line."""

    def run(*arguments: str) -> str:
        before = files_under(in_tmp_path.parent)
        code, stdout, stderr = runner.run_here(capfd, *arguments)
        assert code == 2, (stdout, stderr)
        assert stderr.startswith("error: ")
        assert stderr.endswith("\n")
        assert stderr.count("\n") == 1
        assert "Traceback" not in stdout + stderr
        assert files_under(in_tmp_path.parent) == before
        return stderr.removeprefix("error: ").strip()

    return run
