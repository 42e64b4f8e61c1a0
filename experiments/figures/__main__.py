"""Draws the paper's figures from a run: `python -m experiments.figures --run=results/dropmax`.

The command writes PNG and SVG files, with their captions in captions.md: retained and posterior
(the classes that DropMax retains of easy and of difficult images, before and given the label),
correlation (of classes through ρ, beside confusions), scatter (of predictions under masks),
boundaries (of a problem in the plane), cross_entropy (along training, if the run has
--record_test) and reliability. It leaves out those that the method does not have.
"""

import os

from experiments.cli import command, run_flags
from experiments.cli.errors import UserError
from experiments.cli.kinds import PATH
from experiments.train.config import check_is_of_images, read_config_of_run

FLAGS = command.Flags()
_folder = run_flags.define(FLAGS, "run")
_COMPARE = FLAGS.define(
    "compare", None, "folder of another run of the same data, to draw beside it", PATH
)
_OUTPUT = FLAGS.define(
    "output",
    None,
    "folder of the figures (default: figures in --run, or here if that is read-only)",
    PATH,
)
_MNIST_PATH, _DATA_PATH = run_flags.define_data(FLAGS)


def main() -> None:
    """Runs the command."""
    folder, compare = _folder(), _COMPARE.value
    output = _OUTPUT.value
    if output is None:
        output = run_flags.place_for("figures", folder)
    for each in (folder,) if compare is None else (folder, compare):
        check_is_of_images(read_config_of_run(each), "experiments.figures draws images")
    if not os.path.isdir(output.parent) or (os.path.exists(output) and not os.path.isdir(output)):
        raise UserError(f"--output={output} must be a folder, in a folder that is there")
    command.set_up_jax()
    # Only now, so that --help and mistakes are answered at once.
    from experiments.figures import album, subject

    print(f"{folder}: predicting the test set", flush=True)
    of_run = subject.load(folder, _MNIST_PATH.value, _DATA_PATH.value)
    other = None if compare is None else subject.load_beside(compare, of_run)
    output.mkdir(exist_ok=True)
    album.draw_all(of_run, other, output, lambda line: print(line, flush=True))
    print(f"files: {output}")


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
