"""Shows where the time of a training step goes, on the CPU: `python -m benchmarks.profile`."""

import os
import tempfile
from pathlib import Path

from benchmarks import checks, machine
from experiments.cli import command
from experiments.cli.config_flags import MNIST_DATA, MNIST_DATASETS, ConfigFlags
from experiments.cli.kinds import integer

FLAGS = command.Flags()
_MODELS = checks.models(FLAGS, ["dropmax"])
_NETWORKS = checks.networks(FLAGS, "networks to train them with")
_STEPS = FLAGS.define("steps", 100, "to take the mean over, rounded up to whole epochs", integer())
_DATA = ConfigFlags(FLAGS, MNIST_DATA, datasets=MNIST_DATASETS)
_SAVEDIR = checks.savedir(FLAGS)


def main() -> None:
    """Runs the command."""
    savedir = checks.result_folder(_SAVEDIR.value)
    with tempfile.TemporaryDirectory() as folder:
        # XLA writes its programs there, which show what each kernel is for. We set this before
        # XLA is imported.
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_dump_to={folder} --xla_dump_hlo_as_text"
        os.environ["JAX_PLATFORMS"] = "cpu"
        from benchmarks import profile_report, step_profile
        from experiments.data import datasets

        found = machine.describe_aloud()
        dataset = datasets.load_aloud(_DATA.config())
        records = [
            step_profile.measure(model, network, dataset.train, _STEPS.value, Path(folder))
            for network in _NETWORKS.value
            for model in _MODELS.value
        ]
    results = {"machine": found, "records": records}
    profile_report.write(results, savedir)
    command.print_report(savedir / "profile.md")


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
