"""The calibration experiment: trains and measures what is missing, and writes the files."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import trained
from experiments.calibration import diagrams, measures, predictions, report
from experiments.calibration.measures import NUM_BINS, Measurement
from experiments.data.datasets import Dataset, configured
from experiments.data.forms import variants
from experiments.runtime.files import locked_folder, write_json
from experiments.train import run
from experiments.train.config import Config, check_is_of_images

MEASUREMENTS = "measurements.json"


def compare(config: Config, dataset: Dataset, names: Sequence[str], savedir: Path) -> None:
    """Runs the missing parts of the experiment and writes its files.

    It writes the tables and pictures anew whenever a variant is complete.

    Args:
        config: Of all runs, except for the model and the data.
        dataset: MNIST, or a part of it.
        names: Of `VARIANTS`, each once.
        savedir: Folder of the files; each variant has a subfolder, with one of each run.

    Raises:
        UserError: The configuration, the data and the folder do not go together; nothing is
            written then.
        Stopped: A signal asked to stop; the state is saved.
        RunFailedError: A loss is not finite; the state is saved for inspection.
    """
    check_is_of_images(configured(config, dataset), "experiments.calibration changes images")
    made = {name: variants.make(dataset, name) for name in names}
    configs = {
        (name, model): config_of(model, config, images)
        for name, images in made.items()
        for model in predictions.PREDICTORS
    }
    for (name, model), own in configs.items():
        run.check_missing(own, made[name], savedir / name / model)
    measured: dict[str, dict[str, Measurement]] = {}
    with locked_folder(savedir):
        for name, images in made.items():
            methods: dict[str, Measurement] = {}
            for model in predictions.PREDICTORS:
                methods |= _measured(configs[name, model], images, savedir, name)
            measured[name] = methods
            report.write(measured, configs[name, "softmax"], images, savedir)
            diagrams.reliability_diagrams(measured, savedir / "calibration.png")
            diagrams.detection(measured, savedir / "detection.png")


def config_of(model: str, config: Config, images: Dataset) -> Config:
    """The configuration of one of the runs."""
    own = configured(config, images)
    return dataclasses.replace(own, model=model)


def _measured(
    config: Config, images: Dataset, savedir: Path, variant: str
) -> dict[str, Measurement]:
    """The measurements of a model, which is trained and measured unless that is done."""
    folder = savedir / variant / config.model
    measured = _read(folder / MEASUREMENTS, config)
    if measured is not None:
        _say(f"{variant}, {config.model}: done before")
        return measured
    _say(f"{variant}, {config.model}: {len(config.seeds)} models")
    run.train_missing(config, images, folder)
    _say(f"{variant}, {config.model}: measuring")
    measured = measures.measure(trained.load(folder), images)
    methods = {method: found.to_json() for method, found in measured.items()}
    write_json(folder / MEASUREMENTS, {"of": _identity(config), "methods": methods})
    return measured


def _read(path: Path, config: Config) -> dict[str, Measurement] | None:
    """Measurements that were written before; None if there are none, or of something else."""
    try:
        values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values["of"] != _identity(config):
            return None
        return {name: Measurement.from_json(found) for name, found in values["methods"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        # A damaged file counts as missing: measuring again replaces it.
        return None


def _identity(config: Config) -> dict[str, Any]:
    """What measurements depend on, as JSON values."""
    return {**config.identity(), "num_samples": predictions.NUM_SAMPLES, "num_bins": NUM_BINS}


def _say(line: str) -> None:
    print(line, flush=True)
