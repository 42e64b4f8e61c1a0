"""Measures training beside other frameworks, on the CPU: `python -m benchmarks.train`."""

import contextlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import checks, machine, recipe, workers
from benchmarks.peers import PEERS
from experiments.cli import command
from experiments.cli.config_flags import MNIST_DATA, MNIST_DATASETS, ConfigFlags
from experiments.cli.kinds import POSITIVE_FLOAT, choice, integer, several

FLAGS = command.Flags()
_PEERS = FLAGS.define(
    "peers",
    list(PEERS),
    "trainers to measure; ours and the products alone always are",
    several(choice(tuple(PEERS))),
)
_MODELS = checks.models(FLAGS)
_NETWORKS = checks.networks(FLAGS, "networks to train them with")
_ROUNDS = FLAGS.define("rounds", 7, "times that each trainer has its turn", integer())
_SECONDS = FLAGS.define("seconds", 10.0, "of a turn", POSITIVE_FLOAT)
_DATA = ConfigFlags(FLAGS, MNIST_DATA, datasets=MNIST_DATASETS)
_SAVEDIR = checks.savedir(FLAGS)


def main() -> None:
    """Runs the command."""
    names = workers.installed(["ours", *_PEERS.value, "products"])
    savedir = checks.result_folder(_SAVEDIR.value)
    # We import late, so that --help and mistakes in flags are answered at once.
    from benchmarks import agreement, train_report
    from experiments.data import datasets

    found = machine.describe_aloud()
    dataset = datasets.load_aloud(_DATA.config())
    agreement.check_trainers(names, _MODELS.value, _NETWORKS.value, dataset.train)
    records: list[dict[str, Any]] = []
    for network in _NETWORKS.value:
        records += measure(
            names, _MODELS.value, network, dataset.train, _ROUNDS.value, _SECONDS.value
        )
        # We write after each network, so that an interruption does not lose everything.
        results = {
            "machine": found,
            "rounds": _ROUNDS.value,
            "seconds_a_turn": _SECONDS.value,
            "records": records,
        }
        train_report.write(results, savedir)
    command.print_report(savedir / "train.md")


def measure(
    names: Sequence[str],
    models: Sequence[str],
    network: str,
    train: Any,
    rounds: int,
    seconds: float,
) -> list[dict[str, Any]]:
    """Measures all trainers of one network, both models in the same rounds.

    Returns:
        A record for each peer and model: `steps_per_second` has a value for each round.
    """
    records: list[dict[str, Any]] = []
    asks: list[Any] = []
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        for model in models:
            for name in names:
                folder = Path(scratch, model, name)
                folder.mkdir(parents=True)
                inputs = recipe.make_inputs(network, train.images, train.labels)
                recipe.write_inputs(inputs, folder / "inputs.npz")
                ask = stack.enter_context(workers.worker(name, folder / "inputs.npz"))
                started = ask("start", model=model, network=network)
                _say(network, model, name, f"first step after {_seconds(started)}")
                records.append(
                    {"network": network, "model": model, "peer": name, **started}
                    | {"steps_per_second": [], "peak_memory_bytes": 0}
                )
                asks.append(ask)
        for turn in range(rounds):
            for record, ask in zip(records, asks, strict=True):
                time.sleep(workers.SETTLE_SECONDS)
                measured = ask("measure", seconds=seconds)
                record["steps_per_second"].append(measured["steps_per_second"])
                record["peak_memory_bytes"] = measured["peak_memory_bytes"]
                steps = f"{measured['steps_per_second']:.1f} steps/s"
                name = record["peer"]
                _say(network, record["model"], name, f"round {turn + 1} of {rounds}: {steps}")
    return records


def _seconds(started: Mapping[str, float]) -> str:
    return f"{started['first_step_seconds']:.1f} s (import: {started['import_seconds']:.1f} s)"


def _say(network: str, model: str, name: str, what: str) -> None:
    print(f"{network}, {model}, {name}: {what}", flush=True)


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
