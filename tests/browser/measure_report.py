"""Measures the report of 200 runs: how long it takes to make, to open and to sort, and its size.

`python -m tests.browser.measure_report --run=results/dropmax`

The runs are copies of one, under other names.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from experiments.cli import command, run_flags
from tests.browser.conftest import ARGUMENTS, chromium

FLAGS = command.Flags()
_folder = run_flags.define(FLAGS, "run")

_NUM_RUNS = 200
# Until the browser has laid out the sorted table.
_SORT = """(button) => {
  const start = performance.now();
  button.click();
  document.body.getBoundingClientRect();
  return performance.now() - start;
}"""
_LOADED = "() => performance.getEntriesByType('navigation')[0].loadEventEnd"


def main() -> None:
    """Runs the command."""
    run, path = _folder(), chromium()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as name:
        results = Path(name)
        for number in range(_NUM_RUNS):
            ignored = shutil.ignore_patterns("checkpoints", "events.*", ".*")
            shutil.copytree(run, results / f"run_{number}", ignore=ignored)
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "experiments.report", f"--results={results}"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        print(f"made in {time.perf_counter() - start:.1f} s")
        page_file = results / "report.html"
        print(f"{page_file.stat().st_size / 1e6:.1f} MB")
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        page = browser.new_page()
        page.goto(page_file.as_uri())
        print(f"opened in {page.evaluate(_LOADED) / 1000:.2f} s")
        buttons = page.locator("#runs > .table th button")
        times = [button.evaluate(_SORT) for button in buttons.all()]
        print(f"a column is sorted in {min(times):.0f} to {max(times):.0f} ms")
        browser.close()


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
