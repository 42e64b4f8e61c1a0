"""Settings of every test and doctest."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Other work on the machine may slow a test down, which is no failure.
hypothesis.settings.register_profile("any time", deadline=None)
hypothesis.settings.load_profile("any time")

# Most of the tests' time is LLVM's, over programs that run once: optimised less, they are compiled
# twice as fast. What users run is optimised, as is the training run of .ci/run.
_LESS_OPTIMISED = "--xla_backend_optimization_level=0"
_FLAGS = os.environ.get("XLA_FLAGS", "").split()
# Once, though a worker inherits it: programs are kept by their flags too.
if _LESS_OPTIMISED not in _FLAGS:
    os.environ["XLA_FLAGS"] = " ".join([*_FLAGS, _LESS_OPTIMISED])

_LARGEST_CACHE = 500_000_000  # Bytes: about eight times what one run of all tests leaves.


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors, since tests wait for processes and for the disk."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Programs are compiled once, for all tests and the processes they start, today and later.

    JAX reads them back when the same program is asked for again. `--cache-clear` forgets them.
    """
    import jax

    folder = _kept_programs(pytestconfig) or tmp_path_factory.mktemp("compiled")
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


def _kept_programs(config: pytest.Config) -> Path | None:
    """The folder of programs that outlasts the session; None with `-p no:cacheprovider`."""
    cache: pytest.Cache | None = getattr(config, "cache", None)
    return None if cache is None else cache.mkdir("compiled")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Forgets the programs of earlier versions when there are many, before any test runs."""
    folder = _kept_programs(session.config)
    if folder is None or hasattr(session.config, "workerinput"):
        return
    programs = list(folder.iterdir())
    if sum(program.stat().st_size for program in programs) > _LARGEST_CACHE:
        for program in programs:
            program.unlink()


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs() -> Iterator[None]:
    """Modules share few programs, and all together they take gigabytes."""
    yield
    jax = sys.modules.get("jax")
    if jax is not None:
        jax.clear_caches()
