"""Flax Linen networks that give the heads a method asks for; they know no method.

A new network is a new file and a line in the table below.
"""

from experiments.networks.cnn import CNN
from experiments.networks.lenet import LeNet

NETWORKS = {"lenet": LeNet, "cnn": CNN}

__all__ = ["CNN", "NETWORKS", "LeNet"]
