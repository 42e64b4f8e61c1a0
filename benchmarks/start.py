"""Measures what surrounds training: start, whole run, memory. `python -m benchmarks.start`.

Runs `python -m experiments.mnist` as users do, on the CPU, with a cache folder of its own, which
is empty at first.
"""

from benchmarks import checks, machine
from experiments.cli import command
from experiments.cli.kinds import PATH, integer

FLAGS = command.Flags()
_MNIST_PATH = FLAGS.define(
    "mnist_path",
    None,
    "folder of MNIST's four IDX files (default: mnist_5k; then no run on all images)",
    PATH,
)
_NUM_EPOCHS = FLAGS.define("num_epochs", 200, "epochs of the whole run", integer())
_ROUNDS = FLAGS.define(
    "rounds", 3, "times to start with a warm cache, and to ask for help", integer()
)
_SAVEDIR = checks.savedir(FLAGS)


def main() -> None:
    """Runs the command."""
    # We import late, so that --help is answered at once.
    from benchmarks import start_report, start_timing

    data = start_timing.data_flags(_MNIST_PATH.value)
    savedir = checks.result_folder(_SAVEDIR.value)
    found = machine.describe_aloud()
    results = {
        "machine": found,
        "data": "MNIST" if _MNIST_PATH.value else "mnist_5k",
        "num_epochs": _NUM_EPOCHS.value,
        **start_timing.measure(data, _NUM_EPOCHS.value, _ROUNDS.value),
    }
    start_report.write(results, savedir)
    command.print_report(savedir / "start.md")


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
