"""What training and prediction give on the devices of this process, as JSON on stdout."""

import functools
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from experiments.cli import command, process_flags
from experiments.data import datasets
from experiments.data.split import Split
from experiments.networks import NETWORKS
from experiments.runtime import processes
from experiments.train import evaluation
from experiments.train.config import Config
from experiments.train.steps.setup import make_setup
from tests.experiments import tiny
from tests.experiments.runner import numbers_on, outcomes, start_processes

# 2 devices divide it; 3, 4, 7 and 8 do not, so padding fills the last one's share of images.
NUM_TRAIN = 202
# 3, 4, 7 and 8 devices do not divide it, so padding fills the last devices' shares of a batch.
BATCH_SIZE = 10
# Batch sizes to count examples in; 5 examples are fewer than 8 devices.
COUNTED = (5, 10)
SEEDS = (3, 4)
# 2 devices divide the batches; 8 devices are more than the smallest batch has examples.
DEVICE_COUNTS = pytest.mark.parametrize(
    "devices", [3, *(pytest.param(count, marks=pytest.mark.slow) for count in (2, 7, 8))]
)


def first_epoch(model: str, network: str, images: Split) -> dict[str, Any]:
    """Sums over the first epoch, and predictions after it."""
    config = Config(model, network=network, batch_size=BATCH_SIZE, num_epochs=3)
    setup = make_setup(config, NUM_TRAIN)
    steps = tiny.Steps(setup, Split(*(array[:NUM_TRAIN] for array in images)), SEEDS)
    first_step = steps(1).totals
    totals = steps(setup.steps_per_epoch).totals
    test = Split(*(array[-150:] for array in images))
    predict = evaluation.predictor(setup.network, 2 if setup.method.num_samples else 0)
    heads = predict(steps.state.params, steps.seeds, evaluation.shard_images(test, setup.network))
    return {
        "first step": {name: value.tolist() for name, value in first_step.items()},
        "first epoch": {name: value.tolist() for name, value in totals.items()},
        "logits": heads.logits.tolist(),
    }


def counts(batch_size: int) -> dict[str, Any]:
    """How often each example was seen in each of two epochs, and with a wrong label."""
    steps = tiny.Steps(tiny.counting_setup(NUM_TRAIN, batch_size), tiny.numbered(NUM_TRAIN))
    first, both = steps.epochs(2)
    return {
        "first": tiny.seen(first).tolist(),
        "both": tiny.seen(both).tolist(),
        "mismatches": float(first.totals["mismatches"][0]),
    }


def main() -> None:
    folder, *arguments = sys.argv[1:]
    own = command.Flags()
    flags = process_flags.define(own)
    own.values(["numbers", *arguments])
    with processes.joined(*(flag.value for flag in flags)):
        NETWORKS["tiny"] = tiny.Tiny
        print(json.dumps(numbers_here(folder)))
        sys.stdout.flush()


def numbers_here(folder: str | Path) -> dict[str, Any]:
    """The numbers on the devices of this process and the others of its run."""
    images = datasets.load(mnist_path=folder, train_per_class=30).train
    numbers = {
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "dropmax": first_epoch("dropmax", "tiny", images),
    }
    if jax.process_count() == 1:
        numbers["mc_dropout"] = first_epoch("mc_dropout", "tiny", images)
        numbers["counts"] = {str(size): counts(size) for size in COUNTED}
    if jax.device_count() == jax.local_device_count() == 7:
        numbers["lenet"] = first_epoch("dropmax", "lenet", images)
    return numbers


@functools.cache
def on_devices(count: int, mnist_folder: Path) -> dict[str, Any]:
    """The numbers on `count` devices in a separate process, or on one device in this process."""
    if count == 1:
        return numbers_here(mnist_folder)
    return numbers_on(count, "tests.experiments.numbers", str(mnist_folder))


@functools.cache
def on_processes(count: int, devices: int, mnist_folder: Path) -> dict[str, Any]:
    """What `main` prints in this many processes, with this many devices each."""
    module = "tests.experiments.numbers"
    ended = outcomes(start_processes(module, count, str(mnist_folder), devices=devices))
    assert [process.code for process in ended] == [0] * count, ended
    # Gloo also prints that it connects the processes.
    numbers: dict[str, Any] = json.loads(ended[0].stdout.splitlines()[-1])
    assert numbers["processes"] == count
    assert numbers["devices"] == count * devices
    return numbers


def flat(values: Any) -> np.ndarray:
    """All numbers of nested dictionaries and lists."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(values)])


if __name__ == "__main__":
    main()
