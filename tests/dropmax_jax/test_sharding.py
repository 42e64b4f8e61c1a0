"""Losses, predictions and metrics are right wherever heads and labels lie, and move no head."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

from dropmax_jax import dropmax_loss
from tests.dropmax_jax.sharded import HEADS, LABELS, MESHES, SPREADS, functions

ROOT = Path(__file__).parents[2]
QUICK = ("dropmax_loss", "error_rate", "softmax.log_probs")
# What sorts the classes of an example.
SORTING = ("sparsemax.loss", "sparsemax.log_probs", "sampled_softmax.loss")


def outcomes(*names: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.dropmax_jax.sharded", *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def quick() -> dict[str, Any]:
    return outcomes(*QUICK)


@pytest.fixture(scope="module")
def everything() -> dict[str, Any]:
    return outcomes()


def check(found: dict[str, Any], name: str, mesh: str, spread: str) -> None:
    outcome = found["jit"][name][f"{mesh}, {spread}"]
    if (name in SORTING and spread != "batch") or name == "sampled_softmax.loss":
        if mesh == "Explicit":
            assert "on one device" in outcome["error"] or "automatic axes" in outcome["error"]
            return
        outcome = outcome | {"moves": []}  # A sort gathers what it sorts.
    assert "error" not in outcome, outcome
    assert outcome["difference"] < 1e-4
    assert outcome["moves"] == []


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("name", QUICK)
def test_on_a_mesh(quick: dict[str, Any], name: str, mesh: str, spread: str) -> None:
    check(quick, name, mesh, spread)


@pytest.mark.slow
@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("name", sorted(set(functions()) - {*QUICK}))
def test_everything_on_a_mesh(
    everything: dict[str, Any], name: str, mesh: str, spread: str
) -> None:
    check(everything, name, mesh, spread)


@pytest.mark.parametrize("name", ["c", 3, ("a", "b")])
def test_an_axis_that_is_none_is_refused(name: Any) -> None:
    message = "axis_name must be an axis of the jax.shard_map around this call"
    with pytest.raises(ValueError, match=message):
        dropmax_loss(jax.random.key(0), HEADS, LABELS, axis_name=name)


def test_classes_under_shard_map(quick: dict[str, Any]) -> None:
    found = quick["shard_map"]
    assert len(found) == 6
    assert all(difference < 1e-5 for difference in found.values()), found
