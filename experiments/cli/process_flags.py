"""The flags that tell a process of a run where the others are."""

from typing import Any, NamedTuple

from experiments.cli.command import Flags


class ProcessFlags(NamedTuple):
    """Holders of the flags; see `Flags`."""

    coordinator_address: Any
    num_processes: Any
    process_id: Any

    def values(self) -> tuple[str | None, int | None, int | None]:
        """What the flags say, in this order: what `processes.joined` takes."""
        return self.coordinator_address.value, self.num_processes.value, self.process_id.value


def define(own: Flags) -> ProcessFlags:
    """Defines `--coordinator_address`, `--num_processes` and `--process_id`."""
    return ProcessFlags(
        own.string(
            "coordinator_address",
            None,
            "host:port at which process 0 waits for the others of one run",
        ),
        own.integer(
            "num_processes",
            None,
            "processes of the run; 1 to train alone where SLURM, Kubernetes or a TPU slice tell of "
            "more",
        ),
        own.integer("process_id", None, "which of them this is, from 0 on", smallest=0),
    )
