import os
import subprocess
import sys

import jax
import pytest

from experiments.cli import command, stopping
from experiments.cli.errors import RunFailedError, UserError
from tests.experiments import runner


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_output_ends_no_command(stream: str) -> None:
    program = (
        f"import sys; sys.{stream} = None; from experiments.cli import command; "
        "from experiments.cli.progress import Progress; "
        "command.run(lambda: Progress('a', 0, 1, 1).say('b'), command.Flags(), '')"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=runner.ROOT).returncode == 0


def test_a_reader_that_leaves_ends_a_command_without_a_word() -> None:
    program = (
        "from experiments.cli import command; "
        "command.run(lambda: print('a' * 1_000_000), command.Flags(), '')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=runner.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_letters_that_the_output_does_not_have_end_no_command() -> None:
    program = (
        "from experiments.cli import command; "
        "command.run(lambda: print('± 1'), command.Flags(), '')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=runner.ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "? 1\n", "")


OUT_OF_MEMORY = (
    "error: out of memory ({}); fewer seeds, or less data, need less of it; what was saved is kept"
)


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (UserError("wrong\n  flag"), 2, "error: wrong flag"),
        (RunFailedError("diverged"), 1, "error: diverged"),
        (stopping.Stopped(15, "stopped"), 143, "stopped"),
        (stopping.Stopped(2, "stopped"), 130, "stopped"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError("2 TiB"), 1, OUT_OF_MEMORY.format("2 TiB")),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 2 TiB"),
            1,
            OUT_OF_MEMORY.format("RESOURCE_EXHAUSTED: 2 TiB"),
        ),
    ],
    ids=str,
)
def test_what_is_raised_becomes_a_line_and_an_exit_code(
    raised: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise raised

    assert command.exit_code(main, command.Flags(), "", ["command"]) == code
    assert capsys.readouterr().err == f"{line}\n"


def test_what_is_a_fault_of_the_program_is_told_in_full() -> None:
    def main() -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: a fault")

    with pytest.raises(jax.errors.JaxRuntimeError):
        command.exit_code(main, command.Flags(), "", ["command"])


def test_run_exits_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["command"])
    with pytest.raises(SystemExit) as caught:
        command.run(lambda: None, command.Flags(), "")
    assert caught.value.code == 0
