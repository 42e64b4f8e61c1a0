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
from experiments.train import run, side_by_side
from experiments.train.config import Config, check_is_of_images
from experiments.train.side_by_side import Planned, Train

MEASUREMENTS = "measurements.json"


def compare(
    config: Config, dataset: Dataset, names: Sequence[str], savedir: Path, jobs: int | None = 1
) -> None:
    """Runs the missing parts of the experiment and writes its files.

    It writes the tables and pictures anew whenever a variant is complete.

    Args:
        config: Of all runs, except for the model and the data.
        dataset: MNIST, or a part of it.
        names: Of `VARIANTS`, each once.
        savedir: Folder of the files; each variant has a subfolder, with one of each run.
        jobs: As `side_by_side.training` takes them.

    Raises:
        UserError: The configuration, the data and the folder do not go together; nothing is
            written then.
        Stopped: A signal asked to stop; the state is saved.
        RunFailedError: A loss is not finite; the state is saved for inspection.
    """
    check_is_of_images(configured(config, dataset), "experiments.calibration changes images")
    made = {name: variants.make(dataset, name) for name in names}
    planned = {
        (name, model): Planned(config_of(model, config, images), images, savedir / name / model)
        for name, images in made.items()
        for model in predictions.PREDICTORS
    }
    for each in planned.values():
        run.check_missing(*each)
    missing = [each for each in planned.values() if _kept(each) is None]
    measured: dict[str, dict[str, Measurement]] = {}
    with locked_folder(savedir), side_by_side.training(missing, jobs) as train:
        for name, images in made.items():
            methods: dict[str, Measurement] = {}
            for model in predictions.PREDICTORS:
                methods |= _measured(planned[name, model], train, name)
            measured[name] = methods
            report.write(measured, planned[name, "softmax"].config, images, savedir)
            diagrams.reliability_diagrams(measured, savedir / "calibration.png")
            diagrams.detection(measured, savedir / "detection.png")


def config_of(model: str, config: Config, images: Dataset) -> Config:
    """The configuration of one of the runs."""
    own = configured(config, images)
    return dataclasses.replace(own, model=model)


def _measured(planned: Planned, train: Train, variant: str) -> dict[str, Measurement]:
    """The measurements of a model, which is trained and measured unless that is done."""
    config, images, folder = planned
    measured = _kept(planned)
    if measured is not None:
        _say(f"{variant}, {config.model}: done before")
        return measured
    _say(f"{variant}, {config.model}: {len(config.seeds)} models")
    train(*planned)
    _say(f"{variant}, {config.model}: measuring")
    measured = measures.measure(trained.load(folder), images)
    methods = {method: found.to_json() for method, found in measured.items()}
    write_json(folder / MEASUREMENTS, {"of": _identity(config), "methods": methods})
    return measured


def _kept(planned: Planned) -> dict[str, Measurement] | None:
    """Measurements that were written before; None if there are none, or of something else."""
    try:
        text = (planned.folder / MEASUREMENTS).read_text(encoding="utf-8")
        values: Mapping[str, Any] = json.loads(text)
        if values["of"] != _identity(planned.config):
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
