"""Flax Linen networks that give the heads a method asks for; they know no method.

A new network is a new file and a line in the table below.
"""

from dropmax_jax.networks.cnn import CNN
from dropmax_jax.networks.convolution import conv_relu_pool
from dropmax_jax.networks.lenet import LeNet

NETWORKS = {"lenet": LeNet, "cnn": CNN}

__all__ = ["CNN", "NETWORKS", "LeNet", "conv_relu_pool"]
