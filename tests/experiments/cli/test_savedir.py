from collections.abc import Callable
from pathlib import Path

import pytest


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
