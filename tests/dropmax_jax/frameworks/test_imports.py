import subprocess
import sys

import pytest

FRAMEWORKS = {"flax", "equinox", "haiku"}


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("dropmax_jax", set()),
        ("dropmax_jax.linen", {"flax"}),
        ("dropmax_jax.nnx", {"flax"}),
        ("dropmax_jax.equinox", {"equinox"}),
        ("dropmax_jax.haiku", {"haiku"}),
    ],
)
def test_a_module_imports_its_own_framework_alone(module: str, needed: set[str]) -> None:
    others = sorted(FRAMEWORKS - needed)
    # A module that is None cannot be imported.
    program = f"""
import sys
sys.modules.update(dict.fromkeys({others}))
import {module}
print(*sorted(name for name in {sorted(needed)} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == sorted(needed)


def test_a_missing_framework_is_an_import_error() -> None:
    program = "import sys; sys.modules['equinox'] = None; import dropmax_jax.equinox"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "ModuleNotFoundError: import of equinox halted" in done.stderr
