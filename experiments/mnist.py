"""Trains a method on MNIST and reports its test error: `python -m experiments.mnist`."""

import json
import os
from pathlib import Path
from typing import Any

from experiments.cli import command, data_flags, process_flags
from experiments.cli.errors import UserError
from experiments.runtime import processes
from experiments.train.config import NETWORKS, PRECISIONS, Config, method_names, read_config

FLAGS = command.Flags()
_MODEL = FLAGS.choice("model", "dropmax", method_names(), "method to train")
_NETWORK = FLAGS.choice("network", "lenet", NETWORKS, "network to train it with")
_DATA = data_flags.define(FLAGS)
_TRAIN_PER_CLASS = FLAGS.train_per_class()
_BATCH_SIZE = FLAGS.integer("batch_size", 100, "examples of a training step, over all devices")
_NUM_EPOCHS = FLAGS.integer("num_epochs", 200, "passes over the training set")
_LEARNING_RATE = FLAGS.positive_float(
    "learning_rate", 1e-3, "Adam's, divided by 10 after each third of the steps"
)
_TEMPERATURE = FLAGS.positive_float(
    "temperature", None, "of the relaxed masks, for the methods that draw them (default: 0.1)"
)
_SEED = FLAGS.integer("seed", 0, "the first seed", smallest=0)
_NUM_SEEDS = FLAGS.integer(
    "num_seeds", 1, "models to train together, with seeds from --seed on", largest=1000
)
_PRECISION = FLAGS.choice(
    "precision", "float32", PRECISIONS, "of the network's computation, for GPUs and TPUs"
)
_SAVEDIR = FLAGS.string("savedir", None, "folder of the run (default: results/MODEL)")
_MODE = FLAGS.choice(
    "mode", "train", ("train", "test"), "train, save and test, or only test the run in --savedir"
)
_SAVE_EVERY = FLAGS.integer("save_every", 50, "epochs between checkpoints")
_RESUME = FLAGS.switch("resume", "go on with the run in --savedir")
_OVERWRITE = FLAGS.switch("overwrite", "replace the run in --savedir")
_PROCESSES = process_flags.define(FLAGS)

# The flags that decide on each value of a configuration; where none of them is given, a run that
# is resumed or tested keeps its own value.
_FLAGS_OF = {
    "model": ["model"],
    "network": ["network"],
    "dataset": ["dataset", "mnist_path"],
    "mnist_path": ["dataset", "mnist_path"],
    "data_dir": ["data_dir"],
    "train_per_class": ["train_per_class"],
    "batch_size": ["batch_size"],
    "num_epochs": ["num_epochs"],
    "learning_rate": ["learning_rate"],
    "seeds": ["seed", "num_seeds"],
    "precision": ["precision"],
    "settings": ["temperature"],
    "jax_settings": [],
}


def main() -> None:
    """Runs the command."""
    tests, resume, overwrite = _MODE.value == "test", _RESUME.value, _OVERWRITE.value
    if (resume or tests) and overwrite:
        other = "--mode=test" if tests else "--resume"
        raise UserError(f"{other} and --overwrite contradict each other: drop one")
    default = f"results/{_MODEL.value}"
    savedir = command.path("savedir", default if _SAVEDIR.value is None else _SAVEDIR.value)
    config = _config(_kept_values(savedir) if resume or tests else {})
    command.set_up_jax()
    with processes.joined(*_PROCESSES.values()):
        _run(config, savedir, tests, resume, overwrite)


def _run(config: Config, savedir: Path, tests: bool, resume: bool, overwrite: bool) -> None:
    # Only now, so that --help and mistakes in flags are answered at once.
    from experiments import data
    from experiments.train import run
    from experiments.train.folder import check_folder
    from experiments.train.summary import result_line

    run.check_settings(config)
    if not tests:
        processes.run_on_first(lambda: check_folder(savedir, resume, overwrite))
    dataset = processes.run_on_all(lambda: data.load_for(config))
    print(f"data: {dataset.note}", flush=True)
    config = config.on(dataset.name, data.fingerprint(dataset))
    settings = [config.deciding(), _SAVE_EVERY.value, tests, resume, overwrite]
    processes.check_same("flags or data", json.dumps(settings))
    if tests:
        summary = run.test(config, dataset, savedir)
    else:
        summary = run.train(
            config,
            dataset,
            savedir,
            save_every=_SAVE_EVERY.value,
            resume=resume,
            overwrite=overwrite,
        )
    print(result_line(summary))
    print(f"files: {savedir}")


def _config(kept: dict[str, Any]) -> Config:
    seeds = range(_SEED.value, _SEED.value + _NUM_SEEDS.value)
    if seeds[-1] >= 2**31:
        raise UserError(f"--seed={_SEED.value} leaves no room for {len(seeds)} seeds below 2**31")
    given = {
        "model": _MODEL.value,
        "network": _NETWORK.value,
        **_DATA.values(),
        "train_per_class": command.per_class(_TRAIN_PER_CLASS.value),
        "batch_size": _BATCH_SIZE.value,
        "num_epochs": _NUM_EPOCHS.value,
        "learning_rate": _LEARNING_RATE.value,
        "seeds": tuple(seeds),
        "precision": _PRECISION.value,
        "settings": {} if _TEMPERATURE.value is None else {"temperature": _TEMPERATURE.value},
    }
    return Config.from_json({**given, **kept})


def _kept_values(savedir: Path) -> dict[str, Any]:
    """What the run in `savedir` says of the values for which no flag is given."""
    file = savedir / "config.json"
    if not os.path.exists(file):
        if _RESUME.value:
            return {}
        raise UserError(f"there is no run in {savedir}: train one first, or pass --savedir")
    found = read_config(file).to_json()
    return {
        name: found[name]
        for name, deciding in _FLAGS_OF.items()
        if not any(FLAGS.values[flag].present for flag in deciding)
    }


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
