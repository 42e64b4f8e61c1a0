"""JAX's settings, which an environment can change: those that affect numbers, and debugging aids.

They have the names of `jax.config` without its `jax_`: the variable of `enable_x64` is
`JAX_ENABLE_X64`. Nothing here imports jax before it is needed.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.cli.errors import UserError

DEFAULTS: Mapping[str, Any] = {
    "enable_x64": False,
    "threefry_partitionable": True,
    "random_seed_offset": 0,
    "default_matmul_precision": None,
}
"""What changes random numbers or precision, with JAX's defaults."""

# Debugging aids, which would end a correct command. The trainer itself looks for losses that are
# not finite, and saves the state.
_AIDS: Mapping[str, Any] = {
    "debug_nans": False,
    "debug_infs": False,
    "disable_jit": False,
    "numpy_dtype_promotion": "standard",
    "numpy_rank_promotion": "allow",
    "transfer_guard_host_to_device": "allow",
    "transfer_guard_device_to_host": "allow",
    "transfer_guard_device_to_device": "allow",
}


def variable(name: str) -> str:
    """The environment variable of a setting.

    >>> variable("enable_x64")
    'JAX_ENABLE_X64'
    """
    return f"JAX_{name.upper()}"


def current() -> dict[str, Any]:
    """The settings that affect numbers, as they are now."""
    import jax

    return {name: getattr(jax.config, f"jax_{name}") for name in DEFAULTS}


def apply(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Sets what affects numbers, and turns off debugging aids.

    Returns:
        The former values of the settings that changed.

    Raises:
        UserError: A setting cannot have that value.
    """
    import jax

    changed = {}
    for name, value in {**_AIDS, **settings}.items():
        before = getattr(jax.config, f"jax_{name}")
        if before != value:
            changed[name] = before
            try:
                jax.config.update(f"jax_{name}", value)
            except (TypeError, ValueError) as error:
                raise UserError(f"{variable(name)} cannot be {value!r}: {error}") from error
    return changed


@contextlib.contextmanager
def applied(settings: Mapping[str, Any] | None) -> Iterator[None]:
    """Does what `apply` does until the end of the block; None leaves what affects numbers alone."""
    import jax

    changed = apply(settings or {})
    try:
        yield
    finally:
        for name, value in changed.items():
            jax.config.update(f"jax_{name}", value)


def missing_devices() -> str | None:
    """Why JAX has no device to compute on, in a line; None if it has."""
    import jax

    try:
        jax.devices()
    except Exception as error:  # a RuntimeError or, for a plugin that is not installed, another
        names = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")
        asked = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
        why = f" ({str(error).splitlines()[0][:200]})" if str(error) else ""
        if not asked:
            return f"JAX finds no device{why}"
        return (
            f"JAX finds no device for {' and '.join(asked)}, only {_found()}{why}: unset it, or "
            "install a JAX that has them, such as jax[cuda12] or jax[tpu]"
        )
    return None


def _found() -> str:
    """The devices that JAX finds by itself."""
    import jax

    for name in ("jax_platforms", "jax_platform_name"):
        jax.config.update(name, "")
    try:
        return ", ".join(dict.fromkeys(device.device_kind for device in jax.devices()))
    except Exception:
        return "none"
