import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import pytest
from absl.testing import flagsaver

from dropmax_jax import METHODS
from experiments import mnist
from experiments.cli import command, stopping
from experiments.cli.errors import RunFailedError, UserError
from experiments.networks import NETWORKS
from experiments.train import config
from tests.experiments import runner
from tests.experiments.fake_mnist import write_mnist
from tests.experiments.runner import files_under

FLAGS = (
    "batch_size",
    "coordinator_address",
    "data_dir",
    "dataset",
    "hyperparameters",
    "learning_rate",
    "mnist_path",
    "mode",
    "model",
    "network",
    "num_epochs",
    "num_processes",
    "num_seeds",
    "overwrite",
    "precision",
    "process_id",
    "record_test",
    "resume",
    "save_every",
    "savedir",
    "seed",
    "temperature",
    "train_per_class",
)
POSITIVE_INTEGERS = ("batch_size", "num_epochs", "num_processes", "num_seeds", "save_every")
POSITIVE_FLOATS = ("learning_rate", "temperature")
CHOICES = ("dataset", "mode", "model", "network", "precision")
SWITCHES = ("overwrite", "record_test", "resume")

NO_INTEGERS = ("1.5", "1e3", "nan", "inf", "ten", "", " ", "1,000", "9" * 5000)
IMPOSSIBLE = [
    *((name, value) for name in POSITIVE_INTEGERS for value in (*NO_INTEGERS, "0", "-1", "-0")),
    *((name, str(2**31)) for name in POSITIVE_INTEGERS),
    *(
        (name, value)
        for name in ("seed", "process_id")
        for value in (*NO_INTEGERS, "-1", str(2**31))
    ),
    # Flags for several processes, without the others that they need.
    ("coordinator_address", "127.0.0.1:8476"),
    ("num_processes", "2"),
    ("process_id", "0"),
    *(
        (name, value)
        for name in POSITIVE_FLOATS
        for value in ("0", "-0.0", "-1", "nan", "inf", "-inf", "1e999", "1e-999", "ten", "", "1,5")
    ),
    # Numbers that float32 cannot hold.
    *((name, value) for name in POSITIVE_FLOATS for value in ("1e39", "1e-50")),
    *(
        ("train_per_class", value)
        for value in (*NO_INTEGERS, "0", "-1", str(2**31), "ALL", "all ", "²")
    ),
    *((name, value) for name in CHOICES for value in ("", "nonsense", "None", "0")),
    *((name, value) for name in SWITCHES for value in ("", "maybe", "2", "-1")),
    *(
        ("hyperparameters", value)
        for value in ("", "temperature", "temperature=", "temperature=-1", "temperature=1,", "=x")
    ),
    ("model", "DropMax"),
    ("network", "LeNet"),
    # More models than any memory holds, and seeds past the largest.
    ("num_seeds", str(2**31 - 1)),
]


@pytest.fixture
def refused(in_tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a mistaken command, which must leave no trace; returns its error line."""

    def run(*arguments: str) -> str:
        before = files_under(in_tmp_path.parent)
        code, stdout, stderr = runner.run_here(capfd, *arguments)
        assert code == 2, (stdout, stderr)
        assert stderr.startswith("error: ")
        assert stderr.endswith("\n")
        assert stderr.count("\n") == 1
        assert "Traceback" not in stdout + stderr
        assert files_under(in_tmp_path.parent) == before
        return stderr.removeprefix("error: ").strip()

    return run


class TestHelp:
    @pytest.mark.parametrize("flag", ["--help", "-h"])
    def test_answers_at_once_with_every_flag_and_choice(self, flag: str) -> None:
        stdout = runner.help_at_once("experiments.mnist", flag)
        assert set(re.findall(r"^  --(?:\[no\])?(\w+):", stdout, re.MULTILINE)) == set(FLAGS)
        for name in (*METHODS, "lenet", "cnn", "mnist_5k", "auto", "train", "test"):
            assert re.search(rf"\b{name}\b", stdout), name
        for default in ("dropmax", "lenet", "0.001", "200", "results/MODEL"):
            assert default in stdout

    def test_lists_the_flags_that_there_are(self) -> None:
        assert set(mnist.FLAGS.values) == set(FLAGS)

    def test_methods_and_networks_are_those_of_the_library(self) -> None:
        assert sorted(METHODS) == config.METHOD_NAMES
        assert sorted(config.NETWORK_NAMES) == sorted(NETWORKS)


class TestFlags:
    @pytest.mark.parametrize(("name", "value"), IMPOSSIBLE, ids=lambda text: text[:12])
    def test_an_impossible_value_is_refused(
        self, refused: Callable[..., str], name: str, value: str
    ) -> None:
        # The folder does not exist, so that a value that is let through does not train.
        arguments = [f"--{name}={value}", "--mnist_path=no_such_folder"]
        assert name in refused(*arguments)

    @pytest.mark.parametrize("name", FLAGS)
    @pytest.mark.parametrize("change", ["one letter more", "one letter less", "capital"])
    def test_a_misspelt_flag_is_refused(
        self, refused: Callable[..., str], name: str, change: str
    ) -> None:
        misspelt = {
            "one letter more": f"{name}x",
            "one letter less": name[:-2] + name[-1],
            "capital": name.capitalize(),
        }[change]
        message = refused(f"--{misspelt}=1", "--mnist_path=no_such_folder")
        assert misspelt in message

    @pytest.mark.parametrize("name", sorted({*FLAGS} - {*SWITCHES}))
    def test_a_flag_without_its_value_is_refused(
        self, refused: Callable[..., str], name: str
    ) -> None:
        assert name in refused("--mnist_path=no_such_folder", f"--{name}")

    @pytest.mark.parametrize(
        "arguments", [["dropmax"], ["--", "--model=softmax"], ["--resume", "true"]]
    )
    def test_an_argument_that_is_no_flag_is_refused(
        self, refused: Callable[..., str], arguments: list[str]
    ) -> None:
        message = refused("--mnist_path=no_such_folder", *arguments)
        assert f"unexpected argument {arguments[-1]!r}" in message

    @pytest.mark.parametrize("name", SWITCHES)
    def test_a_negated_switch_has_no_value(self, refused: Callable[..., str], name: str) -> None:
        assert f"no{name}" in refused("--mnist_path=no_such_folder", f"--no{name}=1")

    def test_an_unknown_choice_is_told_the_choices(self, refused: Callable[..., str]) -> None:
        for name in METHODS:
            assert name in refused("--model=nonsense")
        assert "lenet" in refused("--network=nonsense")

    def test_a_misspelt_flag_is_told_the_right_one(self, refused: Callable[..., str]) -> None:
        assert "num_seeds" in refused("--num_seed=5")

    def test_seeds_end_where_int32_does(self, refused: Callable[..., str]) -> None:
        message = refused(f"--seed={2**31 - 2}", "--num_seeds=3", "--mnist_path=no_such_folder")
        assert "--seed" in message

    @pytest.mark.parametrize("flag", ["--resume", "--mode=test"])
    def test_overwrite_contradicts(self, refused: Callable[..., str], flag: str) -> None:
        assert refused(flag, "--overwrite") == (
            f"{flag} and --overwrite contradict each other: drop one"
        )

    @pytest.mark.parametrize("model", sorted(METHODS))
    def test_a_temperature_is_for_methods_that_have_one(
        self, refused: Callable[..., str], model: str
    ) -> None:
        message = refused(f"--model={model}", "--temperature=0.2", "--mnist_path=no_such_folder")
        has_one = "temperature" in METHODS[model].hyperparameters
        assert ("no_such_folder" if has_one else f"nothing to --model={model}") in message

    @pytest.mark.parametrize("model", sorted(METHODS))
    def test_every_hyperparameter_of_a_method_can_be_set(
        self, refused: Callable[..., str], model: str
    ) -> None:
        for name, default in METHODS[model].hyperparameters.items():
            for value, answer in ((default, "no_such_folder"), (1e39, name)):
                flag = f"--hyperparameters={name}={value}"
                assert answer in refused(f"--model={model}", flag, "--mnist_path=no_such_folder")

    def test_a_hyperparameter_that_the_loss_refuses(self, refused: Callable[..., str]) -> None:
        flag = "--hyperparameters=retain_probability=2"
        assert refused("--model=class_dropout", flag, "--mnist_path=no_such_folder") == (
            "retain_probability must be above 0 and at most 1, but is 2.0"
        )

    def test_in_a_process_of_its_own(self, tmp_path: Path) -> None:
        code, stdout, stderr = runner.run_apart("--num_epochs=0", cwd=tmp_path)
        assert (code, stdout, stderr.count("\n")) == (2, "", 1)
        assert list(tmp_path.iterdir()) == []


class TestData:
    def test_a_missing_folder(self, refused: Callable[..., str]) -> None:
        assert "no_such_folder" in refused("--mnist_path=no_such_folder")

    def test_a_file_for_a_folder(self, refused: Callable[..., str], in_tmp_path: Path) -> None:
        (in_tmp_path / "file").touch()
        assert "file: Not a directory" in refused("--mnist_path=file")

    def test_a_missing_file(self, refused: Callable[..., str], mnist_copy: Path) -> None:
        (mnist_copy / "t10k-labels-idx1-ubyte").unlink()
        assert "lacks t10k-labels-idx1-ubyte" in refused(f"--mnist_path={mnist_copy}")

    def test_a_truncated_file(self, refused: Callable[..., str], mnist_copy: Path) -> None:
        images = mnist_copy / "train-images-idx3-ubyte"
        images.write_bytes(images.read_bytes()[:-1])
        message = refused(f"--mnist_path={mnist_copy}")
        assert f"{images} is truncated" in message

    def test_swapped_files(self, refused: Callable[..., str], mnist_copy: Path) -> None:
        images = mnist_copy / "train-images-idx3-ubyte"
        labels = mnist_copy / "train-labels-idx1-ubyte"
        content = images.read_bytes()
        images.write_bytes(labels.read_bytes())
        labels.write_bytes(content)
        assert "swapped" in refused(f"--mnist_path={mnist_copy}")

    def test_more_images_than_there_are(
        self, refused: Callable[..., str], mnist_folder: Path
    ) -> None:
        message = refused(f"--mnist_path={mnist_folder}", "--train_per_class=31")
        assert "the largest --train_per_class possible is 30" in message

    def test_a_path_and_another_data_set(
        self, refused: Callable[..., str], mnist_folder: Path
    ) -> None:
        message = refused(f"--mnist_path={mnist_folder}", "--dataset=mnist_5k")
        assert "contradict" in message

    def test_a_batch_larger_than_the_data(
        self, refused: Callable[..., str], mnist_folder: Path
    ) -> None:
        message = refused(f"--mnist_path={mnist_folder}", "--train_per_class=2", "--batch_size=21")
        assert "--batch_size=21 is larger than the training set of 20 examples" in message

    def test_more_steps_than_int32_counts(
        self, refused: Callable[..., str], mnist_folder: Path
    ) -> None:
        message = refused(
            f"--mnist_path={mnist_folder}",
            "--train_per_class=2",
            "--batch_size=1",
            f"--num_epochs={2**31 - 1}",
        )
        assert "--num_epochs" in message


@pytest.fixture
def mnist_copy(tmp_path: Path) -> Path:
    folder = tmp_path / "mnist"
    write_mnist(folder, train_per_class=101, test_per_class=1, gz=False)
    return folder


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


def test_a_run_notes_where_its_data_are_for_commands_in_other_folders(
    mnist_folder: Path, in_tmp_path: Path
) -> None:
    (in_tmp_path / "mnist").symlink_to(mnist_folder)
    before = flagsaver.save_flag_values(mnist.FLAGS.values)
    try:
        mnist.FLAGS.values(["command", "--mnist_path=mnist", "--data_dir=gs://bucket/tfds"])
        config = mnist._CONFIG.config()
    finally:
        flagsaver.restore_flag_values(before, mnist.FLAGS.values)
    assert config.mnist_path == str(in_tmp_path / "mnist")
    assert config.data_dir == "gs://bucket/tfds"


class TestSavedir:
    @pytest.fixture
    def arguments(self, mnist_folder: Path) -> list[str]:
        return [f"--mnist_path={mnist_folder}", "--train_per_class=2", "--batch_size=20"]

    def test_is_a_file(
        self, refused: Callable[..., str], arguments: list[str], in_tmp_path: Path
    ) -> None:
        (in_tmp_path / "file").write_text("precious")
        assert "cannot write to file" in refused(*arguments, "--savedir=file")
        assert "cannot write to file/run" in refused(*arguments, "--savedir=file/run")
        for flag in ("--resume", "--mode=test"):
            refused(*arguments, "--savedir=file/run", flag)

    @pytest.mark.parametrize("flag", ["--mode=train", "--resume", "--overwrite", "--mode=test"])
    def test_has_too_long_a_name(
        self, refused: Callable[..., str], arguments: list[str], flag: str
    ) -> None:
        assert "xxx" in refused(*arguments, f"--savedir={'x' * 300}", flag)

    @pytest.mark.parametrize("name", ["run[1]", "[x]/run", r"a\b", "\udcff\udcfe"])
    def test_has_a_name_under_which_no_checkpoint_can_be_read_again(
        self, refused: Callable[..., str], arguments: list[str], name: str
    ) -> None:
        for flag in ("--mode=train", "--resume", "--overwrite"):
            assert "checkpoints cannot be kept in" in refused(*arguments, f"--savedir={name}", flag)

    def test_is_empty(self, refused: Callable[..., str], arguments: list[str]) -> None:
        assert "--savedir=: must be a path" in refused(*arguments, "--savedir=")

    def test_cannot_be_made(
        self, refused: Callable[..., str], arguments: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def mkdir(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", mkdir)
        message = refused(*arguments, "--savedir=run")
        assert message == "cannot write to run: Permission denied; pass another --savedir"

    def test_cannot_be_written_to(
        self, refused: Callable[..., str], arguments: list[str], in_tmp_path: Path
    ) -> None:
        # Permissions do not stop the superuser, but a folder in the lock's place does.
        (in_tmp_path / "run" / ".lock").mkdir(parents=True)
        assert "cannot write to run" in refused(*arguments, "--savedir=run")

    def test_of_no_run_cannot_be_tested(
        self, refused: Callable[..., str], arguments: list[str]
    ) -> None:
        message = refused(*arguments, "--mode=test", "--savedir=run")
        assert message == "there is no run in run: train one first, or pass --savedir"

    @pytest.mark.parametrize(
        "content",
        ["", "{", "null", "5", "[]", '"model"', "{}", '{"model": "dropmax"}', "[" * 100_000],
        ids=lambda content: content[:20],
    )
    @pytest.mark.parametrize("flag", ["--resume", "--mode=test"])
    def test_with_a_config_that_is_none(
        self,
        refused: Callable[..., str],
        arguments: list[str],
        in_tmp_path: Path,
        content: str,
        flag: str,
    ) -> None:
        (in_tmp_path / "run").mkdir()
        (in_tmp_path / "run" / "config.json").write_text(content)
        assert "config.json" in refused(*arguments, "--savedir=run", flag)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("model", '"nonsense"'),
            ("model", "3"),
            ("network", '"nonsense"'),
            ("dataset", '"nonsense"'),
            ("num_epochs", '"ten"'),
            ("precision", '"float64"'),
            ("num_epochs", "0"),
            ("batch_size", "-1"),
            ("learning_rate", "null"),
            ("learning_rate", "0"),
            ("mnist_path", r'"a\u0000b"'),
            ("mnist_path", r'"\ud800"'),
            ("data_dir", "3"),
            ("learning_rate", "1" + 400 * "0"),
            ("learning_rate", "true"),
            ("num_epochs", "true"),
            ("seeds", "[true]"),
            ("seeds", '["a"]'),
            ("seeds", "[]"),
            ("settings", '{"nonsense": 1}'),
            ("settings", "[]"),
            ("settings", '{"temperature": -1}'),
            ("no_such_name", "1"),
        ],
    )
    def test_with_a_config_of_impossible_values(
        self,
        refused: Callable[..., str],
        mnist_folder: Path,
        in_tmp_path: Path,
        name: str,
        value: str,
    ) -> None:
        run = in_tmp_path / "run"
        run.mkdir()
        own = f'"train_per_class": 2, "mnist_path": "{mnist_folder}", "seeds": [0]'
        (run / "config.json").write_text(f'{{{own}, "model": "softmax", "{name}": {value}}}')
        refused("--savedir=run", "--resume")

    @pytest.mark.parametrize("name", ["checkpoints", "summary.json"])
    def test_with_files_of_an_unknown_run(
        self, refused: Callable[..., str], arguments: list[str], in_tmp_path: Path, name: str
    ) -> None:
        (in_tmp_path / "run" / name).mkdir(parents=True)
        for flags_given in ([], ["--resume"], ["--overwrite"]):
            message = refused(*arguments, "--savedir=run", *flags_given)
            assert message.endswith("remove it, or pass another --savedir")

    def test_of_another_program_is_left_alone(
        self, refused: Callable[..., str], arguments: list[str], in_tmp_path: Path
    ) -> None:
        weights = in_tmp_path / "run" / "checkpoints" / "best" / "weights.pt"
        weights.parent.mkdir(parents=True)
        weights.touch()
        (in_tmp_path / "run" / "config.json").write_text('{"model_type": "bert"}')
        for flags_given in ([], ["--resume"], ["--overwrite"]):
            message = refused(*arguments, "--savedir=run", *flags_given)
            assert "config.json is not the configuration of a run" in message

    @pytest.mark.parametrize("flag", ["savedir", "mnist_path", "data_dir"])
    def test_an_empty_path_is_refused(self, refused: Callable[..., str], flag: str) -> None:
        assert refused("--model=softmax", f"--{flag}=") == f"flag --{flag}=: must be a path"

    def test_is_an_address(self, refused: Callable[..., str], arguments: list[str]) -> None:
        assert "not an address" in refused(*arguments, "--savedir=gs://bucket/run")


class TestFinishedRun:
    @pytest.fixture
    def run(self, finished_run: Path, in_tmp_path: Path) -> Path:
        return Path(shutil.copytree(finished_run, in_tmp_path / "run"))

    def test_is_not_overwritten(self, refused: Callable[..., str], run: Path) -> None:
        message = refused("--savedir=run", "--mode=train", *_data_flags(run))
        assert "run holds a finished run" in message
        for flag in ("--mode=test", "--overwrite", "--savedir"):
            assert flag in message

    def test_unfinished_it_is_not_overwritten_either(
        self, refused: Callable[..., str], run: Path
    ) -> None:
        (run / "summary.json").unlink()
        message = refused("--savedir=run", *_data_flags(run))
        assert "run holds an unfinished run" in message
        assert "--resume" in message

    @pytest.mark.parametrize(
        ("flag", "difference"),
        [
            ("--model=dropmax", "model is softmax, not dropmax"),
            ("--network=cnn", "network is tiny, not cnn"),
            ("--batch_size=4", "batch_size is 8, not 4"),
            ("--num_epochs=7", "num_epochs is 3, not 7"),
            ("--learning_rate=0.1", "learning_rate is 0.001, not 0.1"),
            ("--seed=1", "seeds is [0, 1], not [1]"),
            ("--train_per_class=19", "train_per_class is 20, not 19"),
        ],
    )
    @pytest.mark.parametrize("mode", ["--resume", "--mode=test"])
    def test_of_another_kind_is_refused(
        self, refused: Callable[..., str], run: Path, flag: str, difference: str, mode: str
    ) -> None:
        message = refused("--savedir=run", mode, flag)
        assert f"the run in run is another one: its {difference}" in message

    def test_on_other_data_is_refused(
        self, refused: Callable[..., str], run: Path, tmp_path: Path
    ) -> None:
        write_mnist(tmp_path / "other", train_per_class=120, test_per_class=21)
        message = refused("--savedir=run", "--resume", f"--mnist_path={tmp_path / 'other'}")
        assert "is another one: its data are not the same" in message

    @pytest.mark.parametrize("name", ["checkpoints", "diverged"])
    def test_is_not_overwritten_in_part(
        self, refused: Callable[..., str], run: Path, in_tmp_path: Path, name: str
    ) -> None:
        if (run / name).exists():
            (run / name).rename(in_tmp_path / "elsewhere")
        (run / name).symlink_to(in_tmp_path / "elsewhere")
        message = refused("--savedir=run", "--overwrite", *_data_flags(run))
        assert f"run/{name} is no folder of a run" in message

    @pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl"])
    @pytest.mark.parametrize("content", ["", "{}"])
    def test_with_a_damaged_file_is_tested_again(
        self, run: Path, name: str, content: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        expected = {file: results(run / file) for file in ("summary.json", "metrics.jsonl")}
        (run / name).write_text(content)
        code, _, stderr = runner.run_here(capfd, "--savedir=run", "--resume", *_data_flags(run))
        assert (code, stderr) == (0, "")
        assert {file: results(run / file) for file in expected} == expected

    def test_is_overwritten_when_told_to_and_other_files_stay(
        self,
        run: Path,
        in_tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (run / "notes.txt").write_text("precious")
        arguments = [
            "--batch_size=8",
            "--num_epochs=1",
            "--model=softmax",
            "--network=tiny",
            *_data_flags(run),
        ]
        code, stdout, stderr = runner.run_here(capfd, "--savedir=run", "--overwrite", *arguments)
        assert (code, stderr) == (0, "")
        assert "(200 training examples)" in stdout
        assert (run / "notes.txt").read_text() == "precious"
        assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["25"]


OUT_OF_MEMORY = (
    "error: out of memory ({}); fewer seeds, or less data, need less of it; what was saved is kept"
)


def results(file: Path) -> list[dict[str, object]]:
    """The objects in a file, which holds one JSON value or one per line."""
    text = file.read_text()
    lines = [text] if file.suffix == ".json" else text.splitlines()
    return [json.loads(line) for line in lines]


def _data_flags(run: Path) -> list[str]:
    path = config.read_config(run / "config.json").mnist_path
    return [f"--mnist_path={path}", "--train_per_class=20"]


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
