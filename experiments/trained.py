"""Models that earlier runs trained, loaded for the commands that look into them."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dropmax_jax import Heads
from experiments import data, evaluation, training
from experiments.checkpoints import Checkpoints
from experiments.config import Config, read_config
from experiments.data import Dataset, Split
from experiments.errors import UserError
from experiments.files import locked_folder


class TrainedRun(NamedTuple):
    """A run's models and data.

    Attributes:
        config: what was trained.
        data: what it was trained on.
        task: the network and method.
        params: the trained parameters, leaves `[seeds, ...]`.
    """

    config: Config
    data: Dataset
    task: training.Task
    params: Any

    @property
    def seeds(self) -> np.ndarray:
        """int32 `[seeds]`."""
        return np.asarray(self.config.seeds, np.int32)

    def heads(self, images: Split, num_samples: int = 0) -> Heads:
        """The heads of images, `[seeds, N, K]`; see `evaluation.predictor`."""
        predict = evaluation.predictor(self.task, num_samples)
        params = training.replicate(self.params)
        return predict(params, self.seeds, evaluation.on_devices(images))


def load(savedir: Path, mnist_path: str | None = None) -> TrainedRun:
    """Loads the newest checkpoint of a run.

    Args:
        savedir: the run's folder.
        mnist_path: where its data are, if they are no longer where the run found them.

    Raises:
        UserError: there is no such run, or it is under way, or its data are not the same any more.
    """
    if not (savedir / "config.json").is_file():
        raise UserError(f"there is no run in {savedir}: train one with experiments.mnist first")
    config = read_config(savedir / "config.json")
    here = dataclasses.replace(config, mnist_path=mnist_path or config.mnist_path)
    dataset = data.load_for(here)
    if data.fingerprint(dataset) != config.data_fingerprint:
        raise UserError(f"the run in {savedir} was trained on other data: pass its --mnist_path")
    return restore(config, dataset, savedir)


def restore(config: Config, dataset: Dataset, savedir: Path) -> TrainedRun:
    """Loads the newest checkpoint of a run of that configuration and data.

    Raises:
        UserError: there is no checkpoint, or none is whole, or the run is under way.
    """
    task = training.make_task(config, len(dataset.train.labels))
    with locked_folder(savedir), Checkpoints(savedir / "checkpoints") as checkpoints:
        checkpoint = checkpoints.restore(training.abstract_states(task, config.seeds), warn=print)
    if checkpoint is None:
        raise UserError(f"there is no checkpoint in {savedir}: remove it to train again")
    return TrainedRun(config, dataset, task, checkpoint.state.params)
