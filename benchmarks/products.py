"""The matrix products of a training step, by their sizes.

A convolution counts as the product of its patches and its kernel. Each layer has three products:
its output, the gradient of its kernel, and the gradient of its input, which the first layer does
not need.
"""

from typing import NamedTuple

from benchmarks.recipe import BATCH_SIZE, NETWORKS, NUM_CLASSES, heads_of


class Product(NamedTuple):
    """A layer as a product `[rows, inner] @ [inner, columns]`."""

    rows: int
    inner: int
    columns: int
    needs_input_gradient: bool

    @property
    def num_flops(self) -> int:
        """Floating-point operations, of the forward and the backward pass."""
        return 2 * self.rows * self.inner * self.columns * (2 + self.needs_input_gradient)


def products(model: str, network: str) -> list[Product]:
    """The products of a step.

    >>> sum(product.num_flops for product in products("softmax", "lenet")) / 1e9
    1.3182
    """
    parts = NETWORKS[network]
    first, second = parts.features
    areas = [side**2 for side in parts.sides]
    # The heads are one product: their kernels could stand side by side.
    num_outputs = NUM_CLASSES * len(heads_of(model))
    return [
        Product(BATCH_SIZE * areas[0], 25, first, False),
        Product(BATCH_SIZE * areas[1], 25 * first, second, True),
        Product(BATCH_SIZE, parts.flat, parts.hidden, True),
        Product(BATCH_SIZE, parts.hidden, num_outputs, True),
    ]
