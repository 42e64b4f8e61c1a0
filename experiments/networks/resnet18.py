"""The residual network of 18 layers, for small images."""

import functools

from experiments.networks._resnet import ResNet

ResNet18 = functools.partial(ResNet, blocks=(2, 2, 2, 2))
