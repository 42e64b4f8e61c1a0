"""Compares how well calibrated methods are: `python -m experiments.calibration`.

On digits as they are, on random backgrounds, and turned by random angles on such backgrounds; and
how well their uncertainty tells their own errors and unfamiliar images.
"""

from experiments.cli import command, data_flags
from experiments.cli.errors import UserError
from experiments.train.config import NETWORKS, Config

# Those of experiments.variants, which imports jax and so takes longer than --help should.
VARIANTS = ("clean", "background_random", "background_rotation")

FLAGS = command.Flags()
_VARIANTS = FLAGS.strings(
    "variants", list(VARIANTS), f"images to compare on, of {', '.join(VARIANTS)}"
)
_NETWORK = FLAGS.choice("network", "lenet", NETWORKS, "network to train")
_DATA = data_flags.define(FLAGS)
_TRAIN_PER_CLASS = FLAGS.train_per_class()
_BATCH_SIZE = FLAGS.integer("batch_size", 100, "examples of a training step, over all devices")
_NUM_EPOCHS = FLAGS.integer("num_epochs", 200, "passes over the training set")
_NUM_SEEDS = FLAGS.integer(
    "num_seeds", 5, "models of each kind, with seeds from 0 on", largest=1000
)
_SAVEDIR = FLAGS.string(
    "savedir", "results/calibration", "folder of the tables, the pictures and the runs"
)


def main() -> None:
    """Runs the command."""
    for name in _VARIANTS.value:
        if name not in VARIANTS:
            raise UserError(f"unknown {name!r} in --variants: choose of {', '.join(VARIANTS)}")
    if not _VARIANTS.value:
        raise UserError(f"--variants names none: choose of {', '.join(VARIANTS)}")
    savedir = command.path("savedir", _SAVEDIR.value)
    config = Config(
        model="softmax",
        network=_NETWORK.value,
        **_DATA.values(),
        train_per_class=command.per_class(_TRAIN_PER_CLASS.value),
        batch_size=_BATCH_SIZE.value,
        num_epochs=_NUM_EPOCHS.value,
        seeds=tuple(range(_NUM_SEEDS.value)),
    )
    command.set_up_jax()
    # Only now, so that --help and mistakes in flags are answered at once.
    from experiments import data
    from experiments.calibration import comparison

    dataset = data.load_for(config)
    print(f"data: {dataset.note}", flush=True)
    comparison.compare(config, dataset, tuple(dict.fromkeys(_VARIANTS.value)), savedir)
    for name in ("calibration", "detection"):
        print(f"\n{(savedir / f'{name}.md').read_text(encoding='utf-8')}")
    print(f"files: {savedir}")


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
