"""Writes a page to draw on, with a trained network inside: `python -m experiments.sketchpad`.

The page is one HTML file that works from disk, without a network connection. It shows what the
class logits alone and DropMax say of a drawing, which classes are retained, and masks one by one.
It takes runs of DropMax on MNIST's digits, other characters in their form, or glyphs, and of
several seeds the first.
"""

from experiments.cli import command, run_flags
from experiments.cli.errors import UserError
from experiments.data.catalogue import row_of
from experiments.runtime.files import write_text
from experiments.sketchpad.weights import PADDING
from experiments.train.config import Config, read_config_of_run

FLAGS = command.Flags()
_folder = run_flags.define(FLAGS, "run")
_output = run_flags.define_output(FLAGS, "sketchpad.html", of_run="run")

# Of the images of all data sets of characters.
_SHAPE = (28, 28)


def main() -> None:
    """Runs the command."""
    folder = _folder()
    output = _output(folder)
    _check(read_config_of_run(folder))
    command.set_up_jax()
    # Only now, so that --help and mistakes are answered at once.
    from experiments import trained
    from experiments.sketchpad import html

    run = trained.load(folder)
    html.check(run)
    write_text(output, html.render(run))
    print(f"wrote {output.absolute()}, {output.stat().st_size / 1000:.0f} kB")


def _check(config: Config) -> None:
    """Raises `UserError` if the page cannot hold such a run."""
    if not row_of(config.dataset).strokes or config.image_shape != _SHAPE:
        raise UserError(
            f"experiments.sketchpad draws light characters of 28x28 pixels, such as MNIST's and "
            f"those of glyphs, and the run's data are {config.dataset}"
        )
    if config.network not in PADDING:
        raise UserError(
            f"experiments.sketchpad knows the networks {' and '.join(PADDING)}, and the run's is "
            f"{config.network}"
        )


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
