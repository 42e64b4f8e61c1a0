"""Measures the loss alone beside the softmax cross-entropy: `python -m benchmarks.loss`."""

from typing import Any

from benchmarks import checks, machine
from experiments.cli import command
from experiments.cli.errors import UserError
from experiments.cli.kinds import POSITIVE_FLOAT, integer

FLAGS = command.Flags()
_SIZES = checks.sizes(FLAGS, "batch and number of classes, as BATCHxCLASSES; none", or_none=True)
_LINEAR_SIZES = checks.linear_sizes(FLAGS, ["2048x32768x256"])
_BLOCKS = checks.blocks(FLAGS)
_ROUNDS = FLAGS.define("rounds", 7, "times that each function has its turn", integer())
_SECONDS = FLAGS.define("seconds", 1.0, "of a turn; one call at least", POSITIVE_FLOAT)
_MAX_GIGABYTES = FLAGS.define(
    "max_gigabytes",
    None,
    "memory that may be used (default: 80 % of what is available)",
    POSITIVE_FLOAT,
)
_SAVEDIR = checks.savedir(FLAGS)


def main() -> None:
    """Runs the command."""
    max_bytes = 1e9 * (_MAX_GIGABYTES.value or 0) or 0.8 * machine.memory_bytes("MemAvailable")
    if not max_bytes:
        raise UserError("how much memory is available is unknown here: pass --max_gigabytes")
    savedir = checks.result_folder(_SAVEDIR.value)
    command.set_up_jax()
    # We import late, so that --help and mistakes in flags are answered at once.
    import jax

    from benchmarks import linear_report, linear_timing, loss_report, loss_timing

    found = {**machine.describe(), "device": jax.devices()[0].device_kind}
    print(f"{machine.in_words(found)}; device: {found['device']}", flush=True)
    machine.warn_if_busy(found)
    results: dict[str, Any] = {
        "machine": found,
        "rounds": _ROUNDS.value,
        "seconds_a_turn": _SECONDS.value,
        "records": [],
        "linear": [],
    }
    for shape in _LINEAR_SIZES.value:
        record = linear_timing.measure(
            shape, "float32", _ROUNDS.value, _SECONDS.value, max_bytes, _BLOCKS.value
        )
        print(linear_report.in_words(record), flush=True)
        results["linear"].append(record)
        loss_report.write(results, savedir)
    if _SIZES.value:
        bandwidth = loss_timing.bandwidth(_ROUNDS.value, _SECONDS.value, max_bytes)
        results["bandwidth_bytes_per_second"] = bandwidth
        print(f"memory bandwidth: {bandwidth / 1e9:.1f} GB/s (triad)", flush=True)
    for shape in _SIZES.value:
        record = loss_timing.measure(shape, _ROUNDS.value, _SECONDS.value, max_bytes)
        print(loss_report.in_words(record, max_bytes), flush=True)
        results["records"].append(record)
        loss_report.write(results, savedir)
    command.print_report(savedir / "loss.md")


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
