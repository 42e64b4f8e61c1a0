"""Flax Linen networks that give the heads a method asks for; they know no method.

A new network is a new file and a line in the table below.
"""

from collections.abc import Callable
from typing import Any

from experiments.networks.cnn import CNN
from experiments.networks.lenet import LeNet
from experiments.networks.resnet18 import ResNet18
from experiments.networks.resnet34 import ResNet34
from experiments.networks.text import Text

NETWORKS: dict[str, Callable[..., Any]] = {
    "lenet": LeNet,
    "cnn": CNN,
    "resnet18": ResNet18,
    "resnet34": ResNet34,
    "text": Text,
}

__all__ = ["CNN", "NETWORKS", "LeNet", "ResNet18", "ResNet34", "Text"]
