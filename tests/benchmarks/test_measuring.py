import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from benchmarks import (
    agreement,
    linear_report,
    loss,
    loss_timing,
    products,
    products_alone,
    recipe,
    train,
    workers,
)
from benchmarks.spread import ratios
from experiments.cli.errors import RunFailedError
from experiments.data.split import Split
from tests.experiments.runner import run_here


@pytest.mark.slow
def test_training_is_measured_from_end_to_end(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workers.ROOT)
    code, stdout, stderr = run_here(
        capfd,
        "--peers=ours,flax",
        "--networks=lenet",
        "--models=softmax",
        "--rounds=1",
        "--seconds=0.2",
        "--dataset=mnist_5k",
        f"--savedir={tmp_path}",
        module=train,
    )
    assert (code, stderr) == (0, "")
    assert "same loss and gradient: softmax, lenet" in stdout
    assert {path.name for path in tmp_path.iterdir()} == {"train.json", "train.md", "train.png"}
    results = json.loads((tmp_path / "train.json").read_text())
    assert results["machine"]["processor"]
    records = {record["peer"]: record for record in results["records"]}
    assert records.keys() == {"ours", "flax", "products"}
    for record in records.values():
        assert len(record["steps_per_second"]) == 1
        assert record["steps_per_second"][0] > 0
        assert record["first_step_seconds"] > 0
        assert 5e7 < record["peak_memory_bytes"] < 5e9
    table = (tmp_path / "train.md").read_text()
    ratio = ratios(records["ours"]["steps_per_second"], records["flax"]["steps_per_second"])
    assert "| lenet | softmax | flax |" in table
    assert str(ratio) in table
    assert "plain products alone" in table


@pytest.mark.slow
def test_the_loss_is_measured_from_end_to_end(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, stdout, stderr = run_here(
        capfd,
        "--sizes=16x10,9000x9000",
        "--linear_sizes=30x200x8",
        "--blocks=8x16",
        "--rounds=2",
        "--seconds=0.01",
        "--max_gigabytes=0.2",
        f"--savedir={tmp_path}",
        module=loss,
    )
    assert (code, stderr) == (0, "")
    assert "9000 x 9000: left out, needs" in stdout
    assert {path.name for path in tmp_path.iterdir()} == {"loss.json", "loss.md", "loss.png"}
    results = json.loads((tmp_path / "loss.json").read_text())
    (small,) = results["linear"]
    assert small["milliseconds"].keys() == small["bytes_between"].keys()
    assert small["peak_bytes"].keys() | {"8x16"} == small["milliseconds"].keys()
    table = (tmp_path / "loss.md").read_text()
    assert table.count("| 30 x 200 x 8, float32 |") == 1
    assert "| 8x16 |" in table
    record, left_out = results["records"]
    assert {len(values) for values in record["milliseconds"].values()} == {2}
    assert left_out["bytes_needed"] > 7 * 4 * 9000**2
    assert "| 16 x 10 |" in (tmp_path / "loss.md").read_text()


def test_linear_heads_that_do_not_fit_into_memory_are_said_and_left_out() -> None:
    record = {
        "size": {"examples": 9, "classes": 8, "features": 7},
        "dtype": "float32",
        "milliseconds": {},
        "bytes_between": {"dropmax_linear": 2_000_000, "dropmax": 4_000_000},
    }
    words = linear_report.in_words(record)
    assert "dropmax_linear left out, needs 2 MB and its inputs twice (--max_gigabytes)" in words
    assert not any("9 x 8 x 7" in line for line in linear_report.table([record]))


@pytest.mark.slow
def test_a_step_is_profiled_from_end_to_end(tmp_path: Path) -> None:
    # This takes its own process, because XLA reads what to dump when it is loaded.
    subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.profile", "--networks=lenet", "--steps=10"),
            *("--dataset=mnist_5k", f"--savedir={tmp_path}"),
        ],
        cwd=workers.ROOT,
        check=True,
        timeout=300,
    )
    (record,) = json.loads((tmp_path / "profile.json").read_text())["records"]
    milliseconds = record["kernel_milliseconds"]
    layers = {part.partition(",")[0] for part in milliseconds}
    assert {"convolution 1", "convolution 2", "dense", "heads", "loss and noise"} < layers
    # Kernels account for most of the time. They may run side by side, or XLA wait between them.
    assert 0.3 < sum(milliseconds.values()) / record["step_milliseconds"] < 4
    assert "| convolution 2, backward, products |" in (tmp_path / "profile.md").read_text()


def test_the_gradients_of_the_loss_reuse_the_memory_they_are_given() -> None:
    for call in loss_timing._compile((64, 32)).values():
        memory = call.compiled.memory_analysis()
        assert memory.alias_size_in_bytes >= 3 * 4 * 64 * 32


@pytest.mark.parametrize("network", recipe.NETWORKS)
@pytest.mark.parametrize("model", recipe.MODELS)
def test_the_products_alone_multiply_as_much_as_a_step(
    model: str, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(products_alone, "_quicker", lambda both, of: both[0])
    jit = jax.jit

    def spy(function: Any, **options: Any) -> Any:
        jitted = jit(function, **options)
        compiled.append(jitted)
        return jitted

    monkeypatch.setattr(jax, "jit", spy)
    nothing = np.zeros(0)
    trainer = products_alone.make(model, network, {}, nothing, nothing)
    cells = dict(zip(trainer.run.__code__.co_freevars, trainer.run.__closure__ or (), strict=True))
    program = compiled[-1].lower(cells["operands"].cell_contents, cells["results"].cell_contents)
    flops = sum(product.num_flops for product in products.products(model, network))
    assert program.compile().cost_analysis()["flops"] == pytest.approx(flops, rel=0.01)


def test_trainers_that_disagree_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {"ours": 1.0, "flax": 1.001}

    @contextlib.contextmanager
    def worker(name: str, path: Path) -> Iterator[Any]:
        def ask(request: str, path: str, **_: Any) -> dict[str, float]:
            images, labels = np.zeros((1, 28, 28), np.uint8), np.zeros(1, np.int32)
            recipe.write_inputs(recipe.make_inputs("lenet", images, labels), Path(path))
            return {"loss": losses[name]}

        yield ask

    monkeypatch.setattr(agreement, "worker", worker)
    split = Split(np.zeros((100, 28, 28), np.uint8), np.zeros(100, np.int32))
    with pytest.raises(RunFailedError, match="losses differ: dropmax, cnn, is 1.001 by flax"):
        agreement.check_trainers(["ours", "flax"], ["dropmax"], ["cnn"], split)


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "inputs.npz").write_text("no arrays")
    with (
        pytest.raises(RunFailedError, match="flax failed: .*"),
        workers.worker("flax", tmp_path / "inputs.npz"),
    ):
        pass


def test_a_peer_that_is_not_installed_is_left_out(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "is_installed", lambda name: name != "pytorch")
    assert workers.installed(["ours", "pytorch"]) == ["ours"]
    assert "left out: pytorch, for the package torch is not installed" in capfd.readouterr().out
