from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import accelerator, loss, predict, profile, start, train
from tests.experiments.runner import help_at_once, run_here

COMMANDS = (accelerator, loss, predict, profile, start, train)


def ids(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


@pytest.mark.parametrize("module", COMMANDS, ids=ids)
class TestEachCommand:
    def test_help_lists_every_flag_without_importing_a_framework(self, module: ModuleType) -> None:
        stdout = help_at_once(module.__name__)
        assert module.__name__ in stdout
        for name in module.FLAGS.values:
            assert name in stdout

    def test_an_unknown_flag_exits_with_2(
        self, module: ModuleType, capfd: pytest.CaptureFixture[str]
    ) -> None:
        code, stdout, stderr = run_here(capfd, "--nonsense=1", module=module)
        assert (code, stdout, stderr.count("\n")) == (2, "", 1)
        assert stderr.startswith("error: ")

    def test_a_folder_that_is_a_file_exits_with_2(
        self,
        module: ModuleType,
        capfd: pytest.CaptureFixture[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("JAX_PLATFORMS", "cpu")
        (tmp_path / "file").touch()
        flags = ["--allow_cpu"] if module is accelerator else []
        code, _, stderr = run_here(
            capfd, *flags, f"--savedir={tmp_path / 'file' / 'results'}", module=module
        )
        assert code == 2
        assert "--savedir" in stderr


@pytest.mark.parametrize(
    ("module", "flag"),
    [
        (train, "--models=nonsense"),
        (train, "--models="),
        (train, "--networks=alexnet"),
        (train, "--peers=keras"),
        (train, "--rounds=0"),
        (train, "--seconds=-1"),
        (predict, "--peers=flax"),
        (predict, "--batches=300"),
        (predict, "--batches=0"),
        (predict, "--images=0"),
        (loss, "--sizes=128"),
        (loss, "--sizes=0x10"),
        (loss, "--sizes="),
        (loss, f"--sizes={'9' * 5000}x1"),
        (loss, "--max_gigabytes=0"),
        (loss, "--linear_sizes=10x10"),
        (loss, "--blocks=512"),
        (start, "--num_epochs=0"),
        (start, "--mnist_path=no_such_folder"),
        (accelerator, "--seeds=-1"),
        (accelerator, "--seeds=one"),
        (accelerator, "--sizes=1x"),
    ],
    ids=lambda value: ids(value) if isinstance(value, ModuleType) else value[:20],
)
def test_an_impossible_value_exits_with_2_and_leaves_nothing(
    module: ModuleType,
    flag: str,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = run_here(capfd, flag, module=module)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert flag[2:].partition("=")[0] in stderr
    assert list(tmp_path.iterdir()) == []


def test_without_an_accelerator_the_command_says_so(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jax.default_backend", lambda: "cpu")
    code, _, stderr = run_here(capfd, f"--savedir={tmp_path / 'results'}", module=accelerator)
    assert code == 2
    assert "--allow_cpu" in stderr
    assert list(tmp_path.iterdir()) == []
