"""A process that `side_by_side` starts, with the network `tiny` added."""

from experiments.cli import command
from experiments.networks import NETWORKS
from experiments.train import config, side_by_side
from tests.experiments.tiny import Tiny

if __name__ == "__main__":
    NETWORKS["tiny"] = Tiny
    config.NETWORK_NAMES.append("tiny")
    command.run(side_by_side.main, command.Flags(), __doc__ or "")
