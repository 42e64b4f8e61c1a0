"""Measures training and loss on a GPU or TPU: `python -m benchmarks.accelerator`."""

from benchmarks import checks, machine
from experiments.cli import command
from experiments.cli.config_flags import MNIST_DATA, MNIST_DATASETS, ConfigFlags
from experiments.cli.errors import UserError
from experiments.cli.kinds import POSITIVE_FLOAT, integer, several

FLAGS = command.Flags()
_MODELS = checks.models(FLAGS)
_NETWORKS = checks.networks(FLAGS, "networks to train them with")
_SEEDS = FLAGS.define(
    "seeds", [1, 5, 64], "numbers of models to train together", several(integer())
)
_SIZES = checks.sizes(
    FLAGS,
    "batch and number of classes of the loss alone, as BATCHxCLASSES; none for no loss",
    or_none=True,
)
_LINEAR_SIZES = checks.linear_sizes(FLAGS, ["2048x32768x256", "8192x131072x1024"])
_BLOCKS = checks.blocks(FLAGS)
_ROUNDS = FLAGS.define("rounds", 5, "times that each has its turn", integer())
_SECONDS = FLAGS.define("seconds", 2.0, "of a turn", POSITIVE_FLOAT)
_MAX_GIGABYTES = FLAGS.define(
    "max_gigabytes",
    None,
    "the device's memory that the loss may use (default: 80 % of it)",
    POSITIVE_FLOAT,
)
_ALLOW_CPU = FLAGS.switch("allow_cpu", "measure where there is no accelerator, too")
_DATA = ConfigFlags(FLAGS, MNIST_DATA, datasets=MNIST_DATASETS)
_SAVEDIR = checks.savedir(FLAGS)


def main() -> None:
    """Runs the command."""
    command.set_up_jax()
    # We import late, so that --help and mistakes in flags are answered at once.
    import jax

    from benchmarks import (
        accelerator_report,
        linear_report,
        linear_timing,
        loss_report,
        loss_timing,
        step_timing,
    )
    from experiments.data import datasets

    if jax.default_backend() == "cpu" and not _ALLOW_CPU.value:
        raise UserError(
            "jax sees no GPU or TPU here: install its CUDA or TPU build, or pass --allow_cpu"
        )
    savedir = checks.result_folder(_SAVEDIR.value)
    device = jax.devices()[0]
    found = {**machine.describe(), "device": device.device_kind, "devices": jax.device_count()}
    print(f"{found['devices']} x {found['device']}, {machine.in_words(found)}", flush=True)
    dataset = datasets.load_aloud(_DATA.config())
    results = {
        "machine": found,
        "rounds": _ROUNDS.value,
        "seconds_a_turn": _SECONDS.value,
        "records": step_timing.measure(
            _MODELS.value,
            _NETWORKS.value,
            _SEEDS.value,
            dataset.train,
            _ROUNDS.value,
            _SECONDS.value,
        ),
        "loss": [],
        "linear": [],
    }
    accelerator_report.write(results, savedir)
    max_bytes = 1e9 * (_MAX_GIGABYTES.value or 0) or 0.8 * step_timing.memory_bytes(device)
    if (_SIZES.value or _LINEAR_SIZES.value) and not max_bytes:
        raise UserError("how much memory the device has is unknown: pass --max_gigabytes")
    if _SIZES.value:
        bandwidth = loss_timing.bandwidth(_ROUNDS.value, 0.2, max_bytes)
        results["bandwidth_bytes_per_second"] = bandwidth
    for shape in _SIZES.value:
        record = loss_timing.measure(shape, _ROUNDS.value, _SECONDS.value, max_bytes)
        print(loss_report.in_words(record, max_bytes), flush=True)
        results["loss"].append(record)
        accelerator_report.write(results, savedir)
    for shape in _LINEAR_SIZES.value:
        for dtype in ("float32", "bfloat16"):
            record = linear_timing.measure(
                shape,
                dtype,
                _ROUNDS.value,
                _SECONDS.value,
                max_bytes,
                _BLOCKS.value,
            )
            print(linear_report.in_words(record), flush=True)
            results["linear"].append(record)
            accelerator_report.write(results, savedir)
    command.print_report(savedir / "accelerator.md")


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
