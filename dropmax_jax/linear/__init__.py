r"""DropMax for very many classes: the loss from features and kernels, in blocks of classes.

With K classes and N examples, three heads and their gradients take :math:`24 N K` bytes in float32,
more than the network itself where K is a vocabulary. The functions here take what the heads are
computed from: features `[..., D]` and a kernel `[D, K]` for each head. They compute the heads of
some classes at a time, forget them, and compute them again in the backward pass. So nothing of the
size `[N, K]` is in memory, at the cost of a third more matrix products.

The functions share these arguments, and those of `dropmax_jax.dropmax`. Labels are integers here:

- `features`: floating point `[..., D]`, what the last layer reads.
- `kernels`: `Heads` of floating-point arrays `[D, K]`. Instead of one array, a head may have a pair
  of factors `[D, R]` and `[R, K]`: a kernel of rank R, of fewer parameters.
- `biases`: `Heads` of arrays `[K]`; None for no biases.
- `block_size`: how many examples and classes are in a block, two integers; None to choose. It
  changes time and memory; the result only by rounding.
- `label_smoothing`: which part of a label is spread over all classes, a Python number in [0, 1].
- `axis_name`: the axis of `jax.shard_map` over which classes are spread. Each device has its part
  of kernels, biases and `where`, and all features and labels.

Under `jit`, kernels may be spread over their classes, and features over examples. Sums are in
float32 if features and kernels are in less; the product with a first factor is rounded to their
type. The noise is that of `dropmax_loss` for the same key, unless the key is of another generator
than Threefry. Gradients are for reverse mode; `jax.jvp` raises `TypeError`.

References:
    Wijmans et al., `Cut Your Losses in Large-Vocabulary Language Models
    <https://arxiv.org/abs/2411.09009>`_, ICLR 2025 (the same for the softmax).
"""

from dropmax_jax.linear.losses import (
    dropmax_linear_loss,
    dropmax_linear_loss_and_terms,
    softmax_linear_loss,
)
from dropmax_jax.linear.predictions import dropmax_linear_log_probs, dropmax_linear_top_k

__all__ = [
    "dropmax_linear_log_probs",
    "dropmax_linear_loss",
    "dropmax_linear_loss_and_terms",
    "dropmax_linear_top_k",
    "softmax_linear_loss",
]
