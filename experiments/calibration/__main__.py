"""Compares how well calibrated methods are: `python -m experiments.calibration`.

The images are clean digits, digits on random backgrounds, and rotated digits on random backgrounds.
The command also measures how well each method's uncertainty detects errors and unfamiliar images.
"""

from pathlib import Path

from experiments.cli import command
from experiments.cli.config_flags import ConfigFlags
from experiments.cli.kinds import PATH, choice, several

# As in experiments.data.variants, which imports jax and would make --help slow.
VARIANTS = ("clean", "background_random", "background_rotation")

FLAGS = command.Flags()
_VARIANTS = FLAGS.define(
    "variants", list(VARIANTS), "images to compare on", several(choice(VARIANTS))
)
_CONFIG = ConfigFlags(FLAGS, without=("model", "hyperparameters"), num_seeds=5)
_SAVEDIR = FLAGS.define(
    "savedir",
    Path("results/calibration"),
    "folder of the tables, the pictures and the runs",
    PATH,
)


def main() -> None:
    """Runs the command."""
    config, savedir = _CONFIG.config(model="softmax"), _SAVEDIR.value
    command.set_up_jax()
    # Only now, so that --help and mistakes in flags are answered at once.
    from experiments import data
    from experiments.calibration import comparison

    comparison.compare(config, data.load_aloud(config), _VARIANTS.value, savedir)
    for name in ("calibration", "detection"):
        print(f"\n{(savedir / f'{name}.md').read_text(encoding='utf-8')}")
    print(f"files: {savedir}")


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
