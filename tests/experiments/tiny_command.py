"""The command `experiments.mnist`, with the network `tiny` added."""

from experiments.cli import command
from experiments.networks import NETWORKS
from experiments.train import config
from tests.experiments.tiny import Tiny

if __name__ == "__main__":
    NETWORKS["tiny"] = Tiny
    config.NETWORK_NAMES[:] = NETWORKS
    # We import late, because its flags name the networks.
    from experiments import mnist

    command.run(mnist.main, mnist.FLAGS, mnist.__doc__ or "")
