"""Runs of LeNet that were not trained, for tests of the page to draw on."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.train.config import Config
from experiments.train.steps.setup import make_setup
from experiments.trained import TrainedRun


def untrained(folder: Path, model: str = "dropmax", **settings: Any) -> TrainedRun:
    """A run whose parameters are those at the start, of one seed."""
    config = Config(model, **settings)
    setup = make_setup(config, num_train=100)
    params = setup.network.init(jax.random.key(0), jnp.zeros((1, *config.image_shape, 1)))
    return TrainedRun(folder, config, setup, jax.tree.map(lambda leaf: leaf[None], params), None)
