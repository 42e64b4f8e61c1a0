"""The command `experiments.mnist`, with the network `tiny` beside its own."""

from dropmax_jax.networks import NETWORKS
from experiments import command, config
from tests.experiments.tiny import Tiny

NETWORKS["tiny"] = Tiny
config.NETWORKS = tuple(NETWORKS)

if __name__ == "__main__":
    from experiments import mnist

    command.run(mnist.main, mnist.FLAGS, mnist.__doc__ or "")
