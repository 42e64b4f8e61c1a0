"""Whether a configuration makes sense, and goes together with data and devices."""

import jax
import jax.numpy as jnp

from dropmax_jax import METHODS, Heads
from experiments.cli.errors import UserError
from experiments.data.datasets import Dataset
from experiments.runtime import jax_settings
from experiments.train.config import Config, check_is_of_images
from experiments.train.steps import programs, training
from experiments.train.steps.setup import make_setup


def check_hyperparameters(config: Config) -> None:
    """Raises `UserError` if the method's loss lacks a hyperparameter, or refuses its value."""
    if not config.hyperparameters:
        return
    method = METHODS[config.model]
    for name in config.hyperparameters:
        if name not in method.hyperparameters:
            raise UserError(f"{name} means nothing to --model={config.model}: leave it out")
    heads = Heads(**{name: jnp.zeros(len(config.class_names)) for name in method.heads})
    key, label = jax.random.key(0), jnp.int32(0)
    try:
        jax.eval_shape(lambda: method.loss(key, heads, label, **config.hyperparameters))
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error


def check_sizes(config: Config, data: Dataset) -> None:
    """Raises `UserError` if network, batches, devices and data do not go together."""
    num_devices = jax.device_count()  # It fails if there are none, before anything is written.
    num_train = len(data.train.labels)
    if config.augmentation != "none":
        check_is_of_images(config, f"--augmentation={config.augmentation} changes images")
    if config.batch_size > num_train:
        raising = "" if config.train_per_class is None else "raise --train_per_class, or "
        raise UserError(
            f"--batch_size={config.batch_size} is larger than the training set of {num_train} "
            f"examples: {raising}lower the batch size"
        )
    if num_train // config.batch_size * config.num_epochs >= training.NO_STEP:
        raise UserError(
            f"--num_epochs={config.num_epochs} is too large: there can be {training.NO_STEP:,} "
            "steps at most"
        )
    setup = make_setup(config, num_train)
    if hasattr(setup.network, "axis_name") and config.batch_size % num_devices:
        largest = num_train // num_devices * num_devices
        size = min(-(-config.batch_size // num_devices) * num_devices, largest)
        advice = f"pass --batch_size={size}" if size else "use fewer devices, or more examples"
        raise UserError(
            f"{config.network} normalises over the batch, so that the {num_devices} devices must "
            f"divide it: {advice}"
        )
    share = -(-config.batch_size // num_devices)
    if share % config.accumulate:
        raise UserError(
            f"--accumulate={config.accumulate} does not divide the {share} examples that each "
            f"device has of a batch: pass a divisor of {share}"
        )
    try:
        with jax_settings.applied(config.jax_settings):
            programs.abstract_states(setup, config.seeds)
    except ValueError as error:
        raise UserError(f"--network={config.network}: {error}") from error
