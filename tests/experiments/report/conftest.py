from pathlib import Path

import pytest

from tests.experiments.report.made import config_of, make_run


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A finished run, and one that is not."""
    make_run(tmp_path / "results" / "dropmax")
    make_run(tmp_path / "results" / "softmax", config_of("softmax", num_epochs=9), num_epochs=4)
    return tmp_path / "results"
