"""The recipe in eager PyTorch with the channels innermost, as its guide for CPUs advises."""

import functools

from benchmarks.peers import pytorch

make = functools.partial(pytorch.make, channels_last=True)
loss_and_gradient = functools.partial(pytorch.loss_and_gradient, channels_last=True)
predictor = functools.partial(pytorch.predictor, channels_last=True)
