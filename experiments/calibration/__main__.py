"""Compares how well calibrated methods are: `python -m experiments.calibration`.

The images are clean digits, digits on random backgrounds, and rotated digits on random backgrounds.
The command also measures how well each method's uncertainty detects errors and unfamiliar images.
"""

from experiments.cli import command, jobs_flag
from experiments.cli.config_flags import ConfigFlags, results_folder
from experiments.cli.kinds import PATH, choice, several

# As in experiments.data.forms.variants, which imports jax and would make --help slow.
VARIANTS = ("clean", "background_random", "background_rotation")


def config_flags(own: command.Flags) -> ConfigFlags:
    """Defines the flags that say what to train."""
    return ConfigFlags(own, without=("model", "hyperparameters", "record_test"), num_seeds=5)


FLAGS = command.Flags()
_VARIANTS = FLAGS.define(
    "variants", list(VARIANTS), "images to compare on", several(choice(VARIANTS))
)
_CONFIG = config_flags(FLAGS)
_JOBS = jobs_flag.define(FLAGS)
_SAVEDIR = FLAGS.define(
    "savedir",
    None,
    "folder of the tables, the pictures and the runs (default: results/calibration, or "
    "results/DATASET/calibration if the images are not MNIST's)",
    PATH,
)


def main() -> None:
    """Runs the command."""
    config = _CONFIG.config(model="softmax")
    savedir = _SAVEDIR.value or results_folder(config.dataset, "calibration")
    command.set_up_jax()
    # Only now, so that --help and mistakes in flags are answered at once.
    from experiments.calibration import comparison
    from experiments.data import datasets

    dataset = datasets.load_aloud(config)
    comparison.compare(config, dataset, _VARIANTS.value, savedir, _JOBS.value)
    for name in ("calibration", "detection"):
        print(f"\n{(savedir / f'{name}.md').read_text(encoding='utf-8')}")
    print(f"files: {savedir}")


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
