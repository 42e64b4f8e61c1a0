"""Models that earlier runs trained, used from their checkpoints alone."""

import dataclasses
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax import Array
from jax.typing import ArrayLike

from dropmax_jax import Heads
from experiments.cli.errors import UserError
from experiments.data import datasets
from experiments.data.catalogue import row_of
from experiments.data.datasets import Dataset
from experiments.data.split import Split
from experiments.runtime import devices, jax_settings
from experiments.runtime.files import read_json, shared_folder
from experiments.train import evaluation
from experiments.train.checkpoints import Checkpoint, Checkpoints
from experiments.train.config import Config, read_config_of_run
from experiments.train.steps import programs
from experiments.train.steps.setup import Setup, make_setup


class TrainedRun(NamedTuple):
    """A run's models.

    Attributes:
        folder: The run's.
        config: What was trained.
        setup: The network and method.
        params: The trained parameters, leaves `[seeds, ...]`.
        fitted: What the method fitted on validation data, `[seeds, ...]`; None if it fits nothing,
            or the run has not been tested.
    """

    folder: Path
    config: Config
    setup: Setup
    params: Any
    fitted: np.ndarray | None

    @property
    def seeds(self) -> np.ndarray:
        """int32 `[seeds]`."""
        return np.asarray(self.config.seeds, np.int32)

    def heads(self, images: ArrayLike, num_samples: int = 0) -> Heads:
        """The heads of images, NumPy arrays.

        Args:
            images: uint8 `[N, *config.image_shape]`, N at least 1: of MNIST `[N, 28, 28]`, light
                digits on dark ground.
            num_samples: If not 0, forward passes with dropout on, whose noise depends on the seed
                and on an image's place; else one pass without.

        Returns:
            Heads `[seeds, N, K]`, or `[seeds, num_samples, N, K]`.

        Raises:
            ValueError: `images` has another shape or type.
        """
        heads: Heads = self._predicted(images, num_samples, lambda heads: heads)
        return heads

    def log_probs(self, images: ArrayLike) -> np.ndarray:
        """The log-probabilities of the classes, in nats, as the run's own test predicts them.

        Args:
            images: As for `heads`.

        Returns:
            float32 `[seeds, N, K]`.

        Raises:
            ValueError: `images` has another shape or type.
            UserError: The method fits something on validation data, and that is not there.
        """
        if self.setup.method.fit is not None and self.fitted is None:
            raise UserError(
                f"the run in {self.folder} lacks what {self.config.model} fits on validation data: "
                f"run {_command(self.config)} --mode=test --savedir={self.folder} first"
            )
        method = self.setup.method

        def log_probs(heads: Heads) -> Array:
            return evaluation.log_probs(method, heads, self.fitted)

        return np.asarray(self._predicted(images, method.num_samples, log_probs))

    def _predicted(
        self, images: ArrayLike, num_samples: int, of_part: Callable[[Heads], Any]
    ) -> Any:
        """What a function gives of the heads, which are never held of all images; see `heads`."""
        predict = evaluation.predictor(self.setup.network, num_samples)
        with jax_settings.applied(self.config.jax_settings):
            params = devices.replicate(self.params)
            split = self._unlabelled(images)
            spread = evaluation.shard_images(split, self.setup.network, keep=False)
            return predict(params, self.seeds, spread, of_part)

    def _unlabelled(self, images: ArrayLike) -> Split:
        """Images, checked, with labels that nothing looks at."""
        array, shape = np.asarray(images), self.config.image_shape
        if array.dtype != np.uint8 or array.shape[1:] != shape or not len(array):
            sizes = ", ".join(map(str, shape))
            raise ValueError(
                f"images must be uint8 [N, {sizes}] with N at least 1, but is {array.dtype} "
                f"{list(array.shape)}"
            )
        return Split(array, np.zeros(len(array), np.int32))


def load(savedir: str | os.PathLike[str]) -> TrainedRun:
    """Loads the newest checkpoint of a run; needs no data, and writes nothing.

    Args:
        savedir: The run's folder.

    Raises:
        UserError: There is no such run, or it is under way, or no checkpoint is whole.

    Example:
        >>> from experiments import trained
        >>> run = trained.load("results/dropmax")  # doctest: +SKIP
        >>> run.log_probs(np.zeros((5, 28, 28), np.uint8)).shape  # doctest: +SKIP
        (1, 5, 10)
    """
    savedir = Path(savedir)
    config = read_config_of_run(savedir)
    # Only the schedule of the learning rate depends on the number of images.
    setup = make_setup(config, num_train=config.batch_size)
    # Orbax starts an event loop. A notebook's thread has one already, a new thread has none.
    with (
        shared_folder(savedir),
        jax_settings.applied(config.jax_settings),
        ThreadPoolExecutor(1) as thread,
    ):
        checkpoint = thread.submit(_newest_checkpoint, savedir, config, setup).result()
        fitted = _fitted(savedir, config, setup, checkpoint)
    return TrainedRun(savedir, config, setup, checkpoint.state.params, fitted)


def load_data(
    run: TrainedRun, mnist_path: str | None = None, data_path: str | None = None
) -> Dataset:
    """Loads the data that a run was trained on.

    Args:
        run: The run.
        mnist_path: Where MNIST is, if it is no longer where the run found it.
        data_path: Where other data are.

    Raises:
        UserError: The data are not there, or not the same any more.
    """
    config = run.config
    here = config
    if mnist_path is not None or data_path is not None:
        here = dataclasses.replace(config, mnist_path=mnist_path, data_path=data_path)
    dataset = datasets.load_for(here)
    if dataset.fingerprint() != config.data_fingerprint:
        flag = "--mnist_path" if row_of(config.dataset).source == "mnist" else "--data_path"
        raise UserError(f"the run in {run.folder} was trained on other data: pass its {flag}")
    return dataset


def _newest_checkpoint(savedir: Path, config: Config, setup: Setup) -> Checkpoint:
    folder = savedir / "checkpoints"
    checkpoint = None
    if folder.is_dir():
        with Checkpoints(folder, read_only=True) as checkpoints:
            like = programs.abstract_states(setup, config.seeds)
            checkpoint = checkpoints.restore(like, warn=_warn)
    if checkpoint is None:
        raise UserError(
            f"there is no checkpoint in {savedir}: train with {_command(config)} --resume, or into "
            "another --savedir"
        )
    return checkpoint


def _command(config: Config) -> str:
    """The command that trains such runs."""
    name = "mnist" if row_of(config.dataset).source == "mnist" else "images"
    return f"experiments.{name}"


def _warn(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _fitted(
    savedir: Path, config: Config, setup: Setup, checkpoint: Checkpoint
) -> np.ndarray | None:
    """What `summary.json` says was fitted to the checkpoint; None if it does not say."""
    is_last = len(checkpoint.progress["history"]) == config.num_epochs
    if setup.method.fit is None or not is_last:
        return None
    try:
        fitted = np.asarray(read_json(savedir / "summary.json")["fitted"], np.float32)
    except (UserError, LookupError, TypeError, ValueError):
        return None
    is_right = fitted.shape[:1] == (len(config.seeds),) and np.isfinite(fitted).all()
    return fitted if is_right else None
