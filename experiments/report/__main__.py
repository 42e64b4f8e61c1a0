"""Shows all runs below a folder as one page: `python -m experiments.report`.

The page needs no network. It holds tables that can be sorted, the pictures of each run, its
configuration and the command that trains it again; and it says what it left out.
"""

import os
import shlex
from pathlib import Path

from experiments.cli import command, run_flags
from experiments.cli.errors import UserError
from experiments.cli.kinds import PATH
from experiments.runtime.files import write_text

FLAGS = command.Flags()
_RESULTS = FLAGS.define("results", Path("results"), "folder of runs, at any depth", PATH)
_output = run_flags.define_output(FLAGS, "report.html", of_run="results")


def main() -> None:
    """Runs the command."""
    results = Path(_RESULTS.value)
    _check_results(results)
    output = _output(results)
    if os.path.lexists(output) and not _is_report(output):
        raise UserError(
            f"{output} is there, and is no report of this command: pass another --output, or "
            "remove it"
        )
    # Only now, so that --help and mistakes in flags are answered at once.
    from experiments.report.folders import read_results
    from experiments.report.page import render

    inside = results.resolve()
    read = read_results(inside)
    if not (read.runs or read.comparisons or read.pictures or read.left_out):
        raise UserError(
            f"there is no run in {results}: train one with experiments.mnist or "
            "experiments.images first, or pass another --results"
        )
    asked = shlex.join(["python", "-m", "experiments.report", f"--results={results}"])
    write_text(output, render(read, results, inside, asked))
    left_out = f"; it says what it left out: {len(read.left_out)}" if read.left_out else ""
    print(f"wrote {output.absolute()}{left_out}")


def _check_results(results: Path) -> None:
    if not os.path.exists(results):
        raise UserError(f"--results={results} is not there: train a run first, or pass its folder")
    if not os.path.isdir(results):
        raise UserError(f"--results={results} is a file: pass the folder of the runs")


def _is_report(file: Path) -> bool:
    from experiments.report.page import MARK

    if not file.is_file():
        return False
    with file.open(encoding="utf-8", errors="replace") as opened:
        return MARK in opened.read(2000)


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
