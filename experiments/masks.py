"""Draws which classes a trained DropMax retains: `python -m experiments.masks`."""

from pathlib import Path

import numpy as np

from experiments import command
from experiments.errors import UserError

FLAGS = command.Flags()
_SAVEDIR = FLAGS.string("savedir", "results/dropmax", "folder of a run of experiments.mnist")
_OUTPUT = FLAGS.string("output", None, "PNG to write (default: masks.png in --savedir)")
_MNIST_PATH = FLAGS.string(
    "mnist_path", None, "folder of MNIST's four IDX files, if it is not where the run found it"
)


def main() -> None:
    """Runs the command."""
    savedir = Path(_SAVEDIR.value).expanduser()
    output = Path(_OUTPUT.value).expanduser() if _OUTPUT.value else savedir / "masks.png"
    command.use_compilation_cache()
    import jax

    from dropmax_jax import dropmax_log_probs
    from experiments import plots, trained

    run = trained.load(savedir, _MNIST_PATH.value)
    if "prior_logits" not in run.task.method.heads:
        raise UserError(f"the model in {savedir} has no retain probabilities: train dropmax")
    # The first seed's: a figure is of one model.
    heads = jax.tree.map(lambda head: head[0], run.heads(run.data.test))
    retained = np.asarray(jax.nn.sigmoid(heads.prior_logits))
    softmax = np.asarray(jax.nn.softmax(heads.logits))
    dropmax = np.exp(dropmax_log_probs(heads))
    plots.masks(run.data.test, retained, softmax, dropmax, output)
    print(f"wrote {output}")


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
