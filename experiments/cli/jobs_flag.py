"""The flag of commands that train many runs: how many train at once."""

from typing import Any

from experiments.cli.command import Flags
from experiments.cli.kinds import integer


def define(own: Flags) -> Any:
    """Defines `--jobs`, the argument of `side_by_side.training`."""
    return own.define(
        "jobs",
        None,
        "runs that train at once, each on its own share of the cores, so at most one a core "
        "(default: on a CPU as many as cores and 2 GiB of memory each allow, elsewhere 1)",
        integer(),
    )
