"""Measures the prediction of 10,000 images beside other frameworks: `python -m benchmarks.predict`.

On the CPU, as `benchmarks.train` does it: each trainer in a process of its own, one at a time.
"""

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import checks, machine, recipe, workers
from experiments.cli import command
from experiments.cli.config_flags import MNIST_DATA, MNIST_DATASETS, ConfigFlags
from experiments.cli.errors import RunFailedError
from experiments.cli.kinds import POSITIVE_FLOAT, choice, integer, several

PEERS = ("tensorflow2", "pytorch", "pytorch_channels_last", "pytorch_compiled")
TOLERANCE = 1e-3

FLAGS = command.Flags()
_PEERS = FLAGS.define(
    "peers", list(PEERS), "what to compare ours with", several(choice(tuple(PEERS)))
)
_NETWORKS = checks.networks(FLAGS, "networks to predict with")
_BATCHES = FLAGS.define(
    "batches",
    [100, 500, 1000],
    "batch sizes that each peer may choose its quickest of",
    several(integer()),
)
_IMAGES = FLAGS.define("images", 10_000, "how many, a multiple of the batch sizes", integer())
_ROUNDS = FLAGS.define("rounds", 7, "times that each has its turn", integer())
_SECONDS = FLAGS.define("seconds", 3.0, "of a turn; one prediction at least", POSITIVE_FLOAT)
_DATA = ConfigFlags(FLAGS, MNIST_DATA, datasets=MNIST_DATASETS)
_SAVEDIR = checks.savedir(FLAGS)


def main() -> None:
    """Runs the command."""
    batches = checks.divisors("batches", _BATCHES.value, _IMAGES.value)
    names = workers.installed(["ours", *_PEERS.value])
    savedir = checks.result_folder(_SAVEDIR.value)
    # We import late, so that --help and mistakes in flags are answered at once.
    from benchmarks import predict_report
    from experiments.data import datasets

    found = machine.describe_aloud()
    dataset = datasets.load_aloud(_DATA.config())
    # Images repeat if there are too few: predicting one twice takes as long as predicting two.
    images = np.resize(dataset.test.images, (_IMAGES.value, *dataset.test.images.shape[1:]))
    records: list[dict[str, Any]] = []
    for network in _NETWORKS.value:
        records += measure(names, network, images, batches, _ROUNDS.value, _SECONDS.value)
        results = {
            "machine": found,
            "images": len(images),
            "rounds": _ROUNDS.value,
            "seconds_a_turn": _SECONDS.value,
            "records": records,
        }
        predict_report.write(results, savedir)
    command.print_report(savedir / "predict.md")


def measure(
    names: list[str],
    network: str,
    images: np.ndarray,
    batches: list[int],
    rounds: int,
    seconds: float,
) -> list[dict[str, Any]]:
    """Measures DropMax with one network.

    Returns:
        A record for each peer, and for each batch size if the peer has a choice. `seconds` is the
        time to predict all images, with a value per round.

    Raises:
        RunFailedError: Two peers predict differently.
    """
    cases = [("ours", "predictor", 0), ("ours", "monte_carlo_predictor", 0)]
    cases += [(name, "predictor", size) for name in names if name != "ours" for size in batches]
    records, asks = [], []
    expected: np.ndarray | None = None
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        inputs = recipe.make_inputs(
            network, images, np.zeros(len(images), np.int32), random_biases=True
        )
        for index, (name, function, batch_size) in enumerate(cases):
            folder = Path(scratch, str(index))
            folder.mkdir()
            recipe.write_inputs(inputs, folder / "inputs.npz")
            ask = stack.enter_context(workers.worker(name, folder / "inputs.npz"))
            path = folder / "log_probs.npy"
            started = ask(
                "start_predicting",
                function=function,
                model="dropmax",
                network=network,
                batch_size=batch_size,
                path=str(path),
            )
            label = _label(name, function, batch_size)
            print(f"{network}, {label}: first after {started['first_seconds']:.1f} s", flush=True)
            if function == "predictor":
                log_probs = np.load(path)
                expected = log_probs if expected is None else expected
                if not np.allclose(log_probs, expected, rtol=TOLERANCE, atol=TOLERANCE):
                    raise RunFailedError(f"{label} predicts otherwise than ours, on {network}")
            case = {"network": network, "peer": name, "function": function}
            records.append({**case, "batch_size": batch_size, "seconds": [], **started})
            asks.append(ask)
        for turn in range(rounds):
            for record, ask in zip(records, asks, strict=True):
                time.sleep(workers.SETTLE_SECONDS)
                measured = ask("measure_predicting", seconds=seconds)
                record["seconds"].append(measured["seconds"])
                record["peak_memory_bytes"] = measured["peak_memory_bytes"]
                label = _label(record["peer"], record["function"], record["batch_size"])
                what = f"round {turn + 1} of {rounds}: {measured['seconds']:.3f} s"
                print(f"{network}, {label}, {what}", flush=True)
    return records


def _label(name: str, function: str, batch_size: int) -> str:
    if function != "predictor":
        return f"{name}, Monte Carlo"
    return f"{name}, batches of {batch_size}" if batch_size else name


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
