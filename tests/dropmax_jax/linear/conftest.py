from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def _products_in_full_precision() -> Iterator[None]:
    """GPUs and TPUs round the factors of products, in blocks and whole heads differently."""
    with jax.default_matmul_precision("highest"):
        yield
