"""Measures a residual network's training beside plain Flax's: `python -m benchmarks.resnet`.

The images are noise of CIFAR's size, on which a step takes as long as on CIFAR's.
"""

from benchmarks import checks, machine
from experiments.cli import command
from experiments.cli.kinds import POSITIVE_FLOAT, choice, integer, several

FLAGS = command.Flags()
_NETWORKS = FLAGS.define(
    "networks", ["resnet18"], "networks to train", several(choice(("resnet18", "resnet34")))
)
_PRECISIONS = FLAGS.define(
    "precisions",
    ["float32"],
    "of the computation",
    several(choice(("float32", "bfloat16"))),
)
_BATCH_SIZE = FLAGS.define("batch_size", 64, "images of a step", integer())
_ROUNDS = FLAGS.define("rounds", 5, "times that each trainer has its turn", integer())
_SECONDS = FLAGS.define("seconds", 10.0, "of a turn; one step at least", POSITIVE_FLOAT)
_SAVEDIR = checks.savedir(FLAGS)


def main() -> None:
    """Runs the command."""
    savedir = checks.result_folder(_SAVEDIR.value)
    command.set_up_jax()
    # We import late, so that --help and mistakes in flags are answered at once.
    import jax

    from benchmarks import resnet_report, resnet_timing

    device = jax.devices()[0]
    found = {**machine.describe(), "device": device.device_kind, "devices": jax.device_count()}
    print(f"{found['devices']} x {found['device']}, {machine.in_words(found)}", flush=True)
    machine.warn_if_busy(found)
    records = []
    for network in _NETWORKS.value:
        for precision in _PRECISIONS.value:
            record = resnet_timing.measure(
                network, precision, _BATCH_SIZE.value, _ROUNDS.value, _SECONDS.value
            )
            print(resnet_report.in_words(record), flush=True)
            records.append(record)
            results = {
                "machine": found,
                "batch_size": _BATCH_SIZE.value,
                "rounds": _ROUNDS.value,
                "seconds_a_turn": _SECONDS.value,
                "records": records,
            }
            resnet_report.write(results, savedir)
    command.print_report(savedir / "resnet.md")


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
