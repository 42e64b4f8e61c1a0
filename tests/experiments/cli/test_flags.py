import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dropmax_jax import METHODS
from experiments import mnist
from experiments.networks import NETWORKS
from experiments.train import config
from tests.experiments import runner

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
