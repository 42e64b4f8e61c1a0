"""The trainers that we compare, each in its own file with the same few functions.

- `make(model, network, params, images, labels)` gives a `recipe.Trainer`.
- `loss_and_gradient(model, network, params, images, labels, noise)` gives the mean loss of a batch
  without dropout or weight decay, for the logistic noise given, and its gradient.
- `predictor(model, network, params, images, batch_size)`, if a peer has one, gives a function
  that returns the log-probabilities of all images, `[N, K]`.

This file imports none of them, so that each process loads one framework only.
"""

import importlib.util
from typing import NamedTuple


class Peer(NamedTuple):
    """A trainer.

    Attributes:
        module: The module that holds its functions.
        needs: The package to import, and to install if it is missing.
        is_trainer: Whether it computes the recipe, and so the same loss as the others.
    """

    module: str
    needs: str
    is_trainer: bool = True


PEERS = {
    "ours": Peer("benchmarks.peers.ours", "jax"),
    "ours_5_seeds": Peer("benchmarks.peers.ours_5_seeds", "jax"),
    "tensorflow2": Peer("benchmarks.peers.tensorflow2", "tensorflow"),
    "pytorch": Peer("benchmarks.peers.pytorch", "torch"),
    "pytorch_channels_last": Peer("benchmarks.peers.pytorch_channels_last", "torch"),
    "pytorch_compiled": Peer("benchmarks.peers.pytorch_compiled", "torch"),
    "flax": Peer("benchmarks.peers.flax_linen", "flax"),
    "products": Peer("benchmarks.products_alone", "jax", is_trainer=False),
}


def is_installed(name: str) -> bool:
    """Whether the package that a peer needs is installed."""
    return importlib.util.find_spec(PEERS[name].needs) is not None
