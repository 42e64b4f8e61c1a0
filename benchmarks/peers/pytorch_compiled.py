"""The recipe in PyTorch with `torch.compile` over the loss and its gradient."""

import functools

import torch

from benchmarks.peers import pytorch

make = functools.partial(pytorch.make, wrap=torch.compile)
loss_and_gradient = functools.partial(pytorch.loss_and_gradient, wrap=torch.compile)
predictor = functools.partial(pytorch.predictor, wrap=torch.compile)
