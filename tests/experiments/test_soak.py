"""The soak that .ci/run calls survives faults, and would notice a loss."""

import random
from pathlib import Path

import pytest

from tests.soak import LostError, Soak


@pytest.mark.slow
def test_survives_a_fault_and_notices_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    soak = Soak(tmp_path, random.Random(0))
    # The kill comes at the first checkpoint, however slow this machine is now.
    soak.seconds = 0.0
    soak._killed("while a checkpoint was written", "checkpoints/*.orbax-checkpoint-tmp*")
    soak.finish()
    assert soak.counts.total() == soak.num_runs == 1
    soak.undisturbed["metrics"][7]["train_loss"] *= 1 + 1e-6
    with pytest.raises(LostError, match=r"not as in the undisturbed run: metrics$"):
        soak.finish()
