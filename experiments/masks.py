"""Draws which classes a trained DropMax retains: `python -m experiments.masks`."""

import numpy as np

from experiments.cli import command, run_flags
from experiments.cli.errors import UserError
from experiments.data.catalogue import row_of
from experiments.train.config import check_is_of_images, read_config_of_run

FLAGS = command.Flags()
_savedir = run_flags.define(FLAGS, "savedir")
_output = run_flags.define_output(FLAGS, "masks.png", of_run="savedir")
_MNIST_PATH, _DATA_PATH = run_flags.define_data(FLAGS)


def main() -> None:
    """Runs the command."""
    savedir = _savedir()
    output = _output(savedir)
    check_is_of_images(read_config_of_run(savedir), "experiments.masks draws images")
    command.set_up_jax()
    import jax

    from experiments import trained
    from experiments.reports import plots

    run = trained.load(savedir)
    if "prior_logits" not in run.setup.method.heads:
        raise UserError(f"the model in {savedir} has no retain probabilities: train dropmax")
    test = trained.load_data(run, _MNIST_PATH.value, _DATA_PATH.value).test
    # The first seed's: a figure is of one model.
    heads = jax.tree.map(lambda head: head[0], run.heads(test.images))
    retained = np.asarray(jax.nn.sigmoid(heads.prior_logits))
    softmax = np.asarray(jax.nn.softmax(heads.logits))
    masked = np.exp(run.setup.method.log_probs(heads))
    names, strokes = run.config.class_names, row_of(run.config.dataset).strokes
    plots.masks(test, retained, softmax, masked, output, names, strokes)
    print(f"wrote {output.absolute()}")


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
