"""Relu and 2x2 max-pooling of convolution outputs, with the argmax of each window."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# Which output of a 2x2 pooling window had the maximum, in row-major order; DEAD where relu is 0.
DEAD = 4


def pooling_order(side: int) -> np.ndarray:
    """The rows of an image with `side` rows in the order of their place in a pooling window."""
    return np.arange(side).reshape(-1, 2).T.ravel()


def select(outputs: Sequence[Array], bias: Array) -> tuple[Array, Array]:
    """Pools the four outputs of each pooling window.

    Args:
        outputs: Four float arrays of one shape, in row-major order of the window.
        bias: Float array that broadcasts against them.

    Returns:
        The pooled outputs, and which of the four won, uint8, or `DEAD`.
    """
    best = functools.reduce(jnp.maximum, outputs)
    # All four have the same bias, and relu is monotonic: both can wait for the maximum.
    pooled = best + bias
    winner = jnp.full(best.shape, 3, jnp.uint8)
    for place in (2, 1, 0):
        winner = jnp.where(outputs[place] == best, jnp.uint8(place), winner)
    return jax.nn.relu(pooled), jnp.where(pooled > 0, winner, jnp.uint8(DEAD))


def unselect(gradient: Array, winner: Array, axes: tuple[int, int]) -> Array:
    """The transpose of `select`: the gradient with respect to the four outputs.

    Args:
        gradient: With respect to the pooled outputs.
        winner: As `select` gives it, of the same shape.
        axes: Where the result has two axes more, each of 2: the window's rows and columns.
    """
    rows, columns = axes
    top_left, top_right, left, right = (
        jnp.where(winner == place, gradient, 0) for place in range(4)
    )
    pairs = [jnp.stack(pair, columns - 1) for pair in ((top_left, top_right), (left, right))]
    return jnp.stack(pairs, rows)
