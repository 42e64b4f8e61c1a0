"""The processes of one run, on one machine or on many: how they meet and end."""

import contextlib
import ctypes
import errno
import importlib.util
import os
import re
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from experiments.cli.errors import RunFailedError, UserError

# Kinds of XLA's errors that concern this process, not another.
_OWN_ERRORS = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "UNIMPLEMENTED")

# How long the processes wait for each other at the start, and for heartbeats later.
_JOIN_SECONDS = 120
_HEARTBEAT_SECONDS = 30
# The end of process 0 ends the run: it first gives other failing processes time to say why.
_LINGER_SECONDS = 3.0

_LOST = "another process of the run has ended or cannot be reached"
_AGAIN = "what was saved is kept: start all processes again, with --resume, to go on"


class Place(NamedTuple):
    """Arguments of `jax.distributed.initialize`; None where JAX finds them out."""

    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def place(
    coordinator_address: str | None,
    num_processes: int | None,
    process_id: int | None,
    environment: Mapping[str, str],
) -> Place | None:
    """Where this process stands among those of its run; None if it is alone.

    Raises:
        UserError: The flags do not go together.
    """
    if num_processes == 1 and not coordinator_address and not process_id:
        return None
    flags = {
        "--coordinator_address": coordinator_address,
        "--num_processes": num_processes,
        "--process_id": process_id,
    }
    missing = [name for name, value in flags.items() if value is None]
    if len(missing) == len(flags):
        return Place() if has_peers(environment) else None
    if missing:
        raise UserError(
            "--coordinator_address, --num_processes and --process_id go together: pass "
            f"{' and '.join(missing)} too, or none of them"
        )
    assert coordinator_address is not None
    assert num_processes is not None
    assert process_id is not None
    if process_id >= num_processes:
        raise UserError(
            f"--process_id={process_id} is none of --num_processes={num_processes}: they count "
            "from 0"
        )
    port = coordinator_address.rpartition(":")[2]
    if not re.fullmatch(r".+:\d{1,5}", coordinator_address) or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator_address={coordinator_address} is not host:port, such as 127.0.0.1:8476"
        )
    return None if num_processes == 1 else Place(coordinator_address, num_processes, process_id)


def has_peers(environment: Mapping[str, str]) -> bool:
    """Whether SLURM, Kubernetes or Cloud TPU started this process as one of several.

    JAX then finds out how many there are, and which one this is.
    """
    # Only srun sets the second: a script that sbatch runs is not one of the tasks.
    if environment.get("SLURM_NTASKS", "1") != "1" and "SLURM_STEP_NODELIST" in environment:
        return True
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return True
    if environment.get("MEGASCALE_NUM_SLICES", "1") != "1":
        return True
    hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
    if hosts is None and _has_tpu():
        hosts = _hosts_by_metadata(environment)
    return "," in (hosts or "")


def _has_tpu() -> bool:
    if importlib.util.find_spec("libtpu") is None:
        return False
    import jax  # noqa: F401 - on import it looks for TPU chips, and sets this where there are none

    return "TPU_SKIP_MDS_QUERY" not in os.environ


def _hosts_by_metadata(environment: Mapping[str, str]) -> str | None:
    """The hosts of this TPU slice, as the virtual machine's metadata tell them."""
    server = environment.get("GCE_METADATA_IP", "metadata.google.internal")
    request = urllib.request.Request(
        f"http://{server}/computeMetadata/v1/instance/attributes/worker-network-endpoints",
        headers={"Metadata-Flavor": "Google"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return str(answer.read(1 << 20).decode())
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def joined(
    coordinator_address: str | None, num_processes: int | None, process_id: int | None
) -> Iterator[None]:
    """Joins the other processes of the run, if there are any.

    Within, what all but process 0 print is dropped, and an error that says that a process is gone
    becomes a `RunFailedError`.

    Raises:
        UserError: The flags do not go together, or the processes cannot meet.
    """
    where = place(coordinator_address, num_processes, process_id, os.environ)
    if where is None:
        yield
        return
    _join(where)
    with contextlib.ExitStack() as stack:
        if not is_first():
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            yield
        except (RuntimeError, ValueError) as error:
            if not is_peer_failure(error):
                raise
            raise RunFailedError(f"{_LOST} ({str(error)[:200]}); {_AGAIN}") from error


def is_peer_failure(error: Exception) -> bool:
    """Whether an error says that another process cannot be reached."""
    # XLA's errors start with their kind, and come as one or the other Python exception.
    if count() == 1 or not isinstance(error, RuntimeError | ValueError):
        return False
    kind = re.match(r"[A-Z_]{6,}(?=: )", str(error))
    return kind is not None and kind[0] not in _OWN_ERRORS


def _join(where: Place) -> None:
    import jax

    address = where.coordinator_address
    bind_address = None
    if address is not None:
        host = address.rpartition(":")[0]
        # JAX would listen on all addresses of this machine.
        bind_address = address if host in {"localhost", "[::1]"} or _is_loopback(host) else None
        if where.process_id == 0:
            _check_port_is_free(address)
    _say_on_abort(
        f"error: the processes of the run did not meet within {_JOIN_SECONDS} s"
        f"{f' at {address}' if address else ''}: start all of them, with the same "
        "--coordinator_address and --num_processes, and each its own --process_id"
    )
    try:
        jax.distributed.initialize(
            *where,
            coordinator_bind_address=bind_address,
            initialization_timeout=_JOIN_SECONDS,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except Exception as error:  # JAX's ways to find the others raise many kinds
        raise UserError(
            f"cannot join the processes of the run ({str(error)[:200]}): pass "
            "--coordinator_address, --num_processes and --process_id, or --num_processes=1 to "
            "train alone"
        ) from error
    # JAX takes SIGTERM for itself, and would ignore it until the training loop begins.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    _say_on_abort(f"error: {_LOST}; {_AGAIN}")


def _is_loopback(host: str) -> bool:
    return host.startswith("127.")


def _check_port_is_free(address: str) -> None:
    """Raises `UserError` if something else listens there; XLA would crash without a message."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_server((host.strip("[]"), int(port))):
            pass
    except OSError as error:
        # An address that is not this machine's own may still lead here.
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"--coordinator_address={address}: the port is in use, choose another"
            ) from error


_abort_handlers: list[Any] = []


def _say_on_abort(message: str) -> None:
    """Ends an abort of this process with a line and exit code 1.

    When a process dies, a thread of XLA aborts the others with a stack trace. JAX cannot intercept
    this, and Python's own signal handlers would run too late.
    """

    def say(_: int) -> None:
        os.write(2, f"{message}\n".encode())
        os._exit(1)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(say)
    ctypes.CDLL(None).signal(int(signal.SIGABRT), handler)
    # C keeps no reference to it.
    _abort_handlers.append(handler)


def leave(code: int) -> None:
    """Exits at once if there are other processes and this one failed.

    The usual exit would wait for them for minutes, while they wait for this one.
    """
    if code == 0 or count() == 1:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if is_first():
        time.sleep(_LINGER_SECONDS)
    os._exit(code)


def count() -> int:
    """How many processes the run has."""
    jax = sys.modules.get("jax")
    return jax.process_count() if jax is not None and jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this is process 0, which alone writes reports."""
    return count() == 1 or bool(sys.modules["jax"].process_index() == 0)
