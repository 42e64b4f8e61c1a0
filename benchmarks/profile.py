"""Shows where the time of a training step goes, on the CPU: `python -m benchmarks.profile`."""

import os
import tempfile
from pathlib import Path

from benchmarks import checks, machine, recipe
from experiments.cli import command, data_flags

FLAGS = command.Flags()
_MODELS = FLAGS.strings("models", ["dropmax"], "methods to train")
_NETWORKS = FLAGS.strings("networks", list(recipe.NETWORKS), "networks to train them with")
_STEPS = FLAGS.integer("steps", 100, "to take the mean over, rounded up to whole epochs")
_DATA = data_flags.define(FLAGS)
_SAVEDIR = FLAGS.string("savedir", "results/benchmarks", "folder of the results")


def main() -> None:
    """Runs the command."""
    models = checks.chosen("models", _MODELS.value, recipe.MODELS)
    networks = checks.chosen("networks", _NETWORKS.value, tuple(recipe.NETWORKS))
    savedir = checks.result_folder(_SAVEDIR.value)
    with tempfile.TemporaryDirectory() as folder:
        # XLA writes its programs there, which tell what each kernel is for. Before it is imported.
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_dump_to={folder} --xla_dump_hlo_as_text"
        os.environ["JAX_PLATFORMS"] = "cpu"
        from benchmarks import profile_report, step_profile

        found = machine.describe_aloud()
        dataset = _DATA.load_aloud()
        records = [
            step_profile.measure(model, network, dataset.train, _STEPS.value, Path(folder))
            for network in networks
            for model in models
        ]
    results = {"machine": found, "records": records}
    profile_report.write(results, savedir)
    command.print_report(savedir / "profile.md")


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
