"""The site, built once for all tests of a session."""

import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from tests.docs.pages import DOCS


def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site; any warning fails the build."""
    folder = tmp_path_factory.getbasetemp()
    # Workers of one session have their folders beside each other, and the first of them builds.
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    site = folder / "site"
    with filelock.FileLock(folder / "site.lock"):
        if not (site / "built").exists():
            command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q"]
            done = subprocess.run([*command, DOCS, site], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            (site / "built").touch()
    return site
