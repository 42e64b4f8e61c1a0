"""A command in a process that cannot write to a folder, as if it lay on read-only media.

The arguments are the folder, the module of the command, and the command's own. An audit hook plays
the system for root, because no permissions stop root.
"""

import errno
import importlib
import os
import sys
from typing import Any

from experiments.cli import command
from experiments.networks import NETWORKS
from experiments.train import config
from tests.experiments.tiny import Tiny

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {
    "os.chmod",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
    "os.utime",
    "shutil.rmtree",
}


def make_read_only(folder: str) -> None:
    """Makes everything fail that would write to a folder."""
    access = os.access

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        is_change = event in _CHANGES or (event == "open" and arguments[2] & _WRITING)
        if is_change and any(is_within(path) for path in arguments):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(arguments[0]))

    def is_within(path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(folder)

    def can(path: Any, mode: int, **options: Any) -> bool:
        return not (mode & os.W_OK and is_within(path)) and access(path, mode, **options)

    vars(os)["access"] = can
    sys.addaudithook(refuse)


if __name__ == "__main__":
    folder, module, *arguments = sys.argv[1:]
    NETWORKS["tiny"] = Tiny
    config.NETWORK_NAMES[:] = NETWORKS
    # We import late, because its flags name the networks.
    chosen = importlib.import_module(f"experiments.{module}")
    if folder != "-":
        make_read_only(folder)
    sys.argv = [module, *arguments]
    command.run(chosen.main, chosen.FLAGS, chosen.__doc__ or "")
