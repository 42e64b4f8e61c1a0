"""Convolution, relu and pooling in one function, quick on CPU too."""

from experiments.networks.convolution.fused import conv_relu_pool

__all__ = ["conv_relu_pool"]
