"""The flag of commands that train many runs: how many train at once."""

from typing import Any

from experiments.cli.command import Flags
from experiments.cli.kinds import integer


def define(own: Flags) -> Any:
    """Defines `--jobs`, the argument of `side_by_side.training`."""
    return own.define(
        "jobs",
        None,
        "runs that train at once, each on its own share of the cores (default: on a CPU one for "
        "each core and 2 GiB of memory, elsewhere 1)",
        integer(),
    )
