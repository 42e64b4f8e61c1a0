"""Settings of every test and doctest."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Most of the tests' time is LLVM's, over programs that run once: optimised less, they are compiled
# twice as fast. What users run is optimised, as is the training run of .ci/run.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Programs are compiled once for all tests of a worker and the processes they start.

    JAX reads them back when the same program is asked for again, by another test or module, or
    where another setting of JAX has it traced anew.
    """
    import jax

    folder = tmp_path_factory.mktemp("compiled")
    options = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in options}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in options.items():
            patch.setenv(name.upper(), str(value))
            jax.config.update(name, value)
        yield folder
        for name, value in before.items():
            jax.config.update(name, value)


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs() -> Iterator[None]:
    """Modules share few programs, and all together they take gigabytes."""
    yield
    jax = sys.modules.get("jax")
    if jax is not None:
        jax.clear_caches()
