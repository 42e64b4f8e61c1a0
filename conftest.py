"""Settings of every test and doctest."""

import os
import sys
from collections.abc import Iterator

import pytest

# Most of the tests' time is LLVM's, over programs that run once: optimised less, they are compiled
# twice as fast. What users run is optimised, as is the training run of .ci/run.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs() -> Iterator[None]:
    """Modules share few programs, and all together they take gigabytes."""
    yield
    jax = sys.modules.get("jax")
    if jax is not None:
        jax.clear_caches()
