"""The residual network of 34 layers, for small images."""

import functools

from experiments.networks._resnet import ResNet

ResNet34 = functools.partial(ResNet, blocks=(3, 4, 6, 3))
