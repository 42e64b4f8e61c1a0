"""The flags that tell a process of a run where the others are."""

from typing import Any

from experiments.cli.command import Flags
from experiments.cli.kinds import TEXT, integer


def define(own: Flags) -> tuple[Any, Any, Any]:
    """Defines the flags whose values are the arguments of `processes.joined`, in this order."""
    return (
        own.define(
            "coordinator_address",
            None,
            "host:port at which process 0 waits for the others of one run",
            TEXT,
        ),
        own.define(
            "num_processes",
            None,
            "processes of the run; 1 to train alone even if SLURM, Kubernetes or a TPU slice "
            "reports more",
            integer(),
        ),
        own.define("process_id", None, "which of them this is, from 0 on", integer(0)),
    )
