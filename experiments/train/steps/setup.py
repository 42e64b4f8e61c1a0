"""What a run trains: its method, network and optimiser."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.core import FrozenDict

from dropmax_jax import METHODS, Method, weight_decay_mask
from experiments.networks import NETWORKS
from experiments.runtime import devices
from experiments.train.config import Config

MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class Setup:
    """The parts that a step is made of; compiled programs are kept by it.

    Attributes:
        unrolled: Whether the network is slow in a loop of this platform, so that a program is a
            single step.
    """

    method: Method
    network: nn.Module
    optimizer: optax.GradientTransformation
    hyperparameters: FrozenDict[str, float]
    batch_size: int
    num_train: int
    image_shape: tuple[int, ...] = (28, 28)
    augmentation: str = "none"
    accumulate: int = 1
    unrolled: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one epoch; the examples that do not fill a batch wait for another epoch."""
        return self.num_train // self.batch_size


def make_setup(config: Config, num_train: int) -> Setup:
    """Builds the method, network and optimiser that a configuration names."""
    network = make_network(config)
    num_steps = num_train // config.batch_size * config.num_epochs
    optimizer = make_optimizer(
        config.optimizer, config.schedule, config.learning_rate, config.weight_decay, num_steps
    )
    return Setup(
        METHODS[config.model],
        network,
        optimizer,
        FrozenDict(config.hyperparameters),
        config.batch_size,
        num_train,
        config.image_shape,
        config.augmentation,
        config.accumulate,
        unrolled=not loops(network),
    )


def loops(network: nn.Module) -> bool:
    """Whether a network is as fast in a loop of this platform as outside."""
    return jax.default_backend() != "cpu" or getattr(network, "loops_on_cpu", True)


def make_network(config: Config) -> nn.Module:
    """Builds the network with the heads that the method asks for, and its or the user's dropout."""
    method = METHODS[config.model]
    network = NETWORKS[config.network](
        num_classes=len(config.class_names),
        heads=method.heads,
        dtype=jnp.dtype(config.precision),
    )
    if hasattr(network, "axis_name"):
        network = network.clone(axis_name=devices.AXIS)
    if config.dropout_rate is not None:
        network = network.clone(dropout_rate=config.dropout_rate)
    elif method.dropout_rate:
        network = network.clone(dropout_rate=method.dropout_rate)
    return network


@functools.lru_cache(maxsize=8)  # Two optimisers of the same arguments are not equal.
def make_optimizer(
    name: str, schedule: str, learning_rate: float, weight_decay: float, num_steps: int
) -> optax.GradientTransformation:
    """An optimiser by name, with weight decay in the gradient.

    Args:
        name: `adam`, or `sgd` with Nesterov's momentum.
        schedule: `steps` is the reference's, a rate lowered twice tenfold; or `cosine`, `constant`.
        learning_rate: At first.
        weight_decay: Of every parameter but those of the two mask heads.
        num_steps: Of the whole training.

    Returns:
        An optax transformation.
    """
    # With fewer than three steps, both boundaries fall on one step, which then has both factors.
    scales: dict[int, float] = {}
    for boundary in (num_steps // 3, 2 * num_steps // 3):
        scales[boundary] = 0.1 * scales.get(boundary, 1.0)
    rate = {
        "steps": optax.piecewise_constant_schedule(learning_rate, scales),
        "cosine": optax.cosine_decay_schedule(learning_rate, max(1, num_steps)),
        "constant": learning_rate,
    }[schedule]
    optimizer = optax.adam(rate) if name == "adam" else optax.sgd(rate, MOMENTUM, nesterov=True)
    return optax.chain(optax.add_decayed_weights(weight_decay, mask=weight_decay_mask), optimizer)
