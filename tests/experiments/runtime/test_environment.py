"""A user's environment must neither end a command nor silently change its numbers."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import trained
from experiments.cli import command
from experiments.cli.errors import RunFailedError, UserError
from experiments.data.datasets import Dataset
from experiments.runtime import jax_settings
from experiments.runtime.files import write_json
from experiments.train import run
from experiments.train.config import Config, differences, read_config
from tests.experiments.conftest import MakeConfig
from tests.experiments.results import numbers_of
from tests.experiments.runner import ROOT, Outcome, environment, files_under


def apart(variables: Mapping[str, str], *arguments: str, cwd: Path = ROOT) -> Outcome:
    """Runs Python in a process of its own, with more variables in its environment."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**environment(1), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def config(small_config: MakeConfig) -> Config:
    """A configuration of two epochs of five steps, with JAX's default settings."""
    return small_config("dropmax", batch_size=40, num_epochs=2)


def noting_settings(config: Config) -> Config:
    """The configuration with JAX's current settings."""
    return dataclasses.replace(config, jax_settings=jax_settings.current())


def _predicted(folder: Path, enable_x64: bool, images: np.ndarray) -> np.ndarray:
    with jax_settings.applied({"enable_x64": enable_x64}):
        return trained.load(folder).log_probs(images)


class TestPictures:
    @pytest.mark.parametrize(
        "backend", ["module://matplotlib_inline.backend_inline", "nonsense", "tkagg", None]
    )
    def test_need_neither_the_users_backend_nor_style(
        self, backend: str | None, tmp_path: Path
    ) -> None:
        (tmp_path / "matplotlibrc").write_text(
            "backend: module://no_such_backend\ntext.usetex: True\nno_such_key: 1\n"
        )
        program = (
            "import os, pathlib; from experiments.reports import drawing\n"
            "@drawing.in_own_style\n"
            "def draw():\n"
            "    figure = drawing.Figure(); figure.subplots().set_title('5 %')\n"
            "    drawing.save(figure, pathlib.Path('drawn.png'))\n"
            "draw(); print(os.environ.get('MPLBACKEND'))\n"
        )
        variables = {"MATPLOTLIBRC": str(tmp_path)} | ({"MPLBACKEND": backend} if backend else {})
        code, stdout, stderr = apart(variables, "-c", program, cwd=tmp_path)
        # Other code in this process, such as a notebook, keeps its own backend.
        assert (code, stdout, stderr) == (0, f"{backend}\n", "")
        assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")


class TestDevices:
    @pytest.mark.parametrize(
        "variable", ["JAX_PLATFORMS=cuda", "JAX_PLATFORM_NAME=gpu", "JAX_PLATFORMS=nonsense"]
    )
    def test_that_are_not_there_are_told_in_a_line(self, variable: str, tmp_path: Path) -> None:
        name, _, value = variable.partition("=")
        unset = {"JAX_PLATFORMS": "", name: value}
        arguments = "--dataset=mnist_5k", f"--savedir={tmp_path / 'run'}"
        code, _, stderr = apart(unset, "-m", "experiments.mnist", *arguments)
        assert code == 2
        assert stderr.count("\n") == 1
        assert stderr.startswith("error: JAX finds no device for ")
        assert f"{variable}, only cpu" in stderr
        assert "unset it, or install a JAX that has them" in stderr
        assert not (tmp_path / "run").exists()


class TestCacheOfPrograms:
    @pytest.fixture(autouse=True)
    def _no_cache(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)

    def test_is_in_the_users_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        command.set_up_jax()
        assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "cache" / "dropmax_jax")
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/mine")
        command.set_up_jax()
        assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/mine"
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        command.set_up_jax()
        found = os.environ["JAX_COMPILATION_CACHE_DIR"]
        assert found == str(tmp_path / ".cache" / "dropmax_jax")
        assert capsys.readouterr().err == ""

    @pytest.mark.usefixtures("no_home")
    @pytest.mark.parametrize("home", [None, "", "/dev/null"])
    def test_is_not_needed(
        self,
        home: str | None,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def makedirs(folder: str, exist_ok: bool) -> None:
            raise PermissionError(13, f"{folder} cannot be made")

        monkeypatch.setattr("os.makedirs", makedirs)
        if home is not None:
            monkeypatch.setenv("HOME", home)
        command.set_up_jax()
        assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert told.startswith("compiled programs are not kept for the next start (")


class TestSettingsOfJax:
    @pytest.mark.parametrize(
        ("name", "value"), [("enable_x64", True), ("threefry_partitionable", False)]
    )
    def test_are_those_of_the_run_wherever_it_is_resumed_and_tested(
        self, name: str, value: bool, config: Config, small_data: Dataset, tmp_path: Path
    ) -> None:
        with jax_settings.applied({name: value}):
            whole = noting_settings(config)
            run.train(whole, small_data, tmp_path / "whole")
        assert read_config(tmp_path / "whole" / "config.json") == whole
        assert whole.jax_settings == {**jax_settings.DEFAULTS, name: value}
        tested = run.test(whole, small_data, tmp_path / "whole")
        # The run trains again by the settings that it records.
        run.train(whole, small_data, tmp_path / "again")
        with jax_settings.applied({name: value}):
            wanted = numbers_of(tmp_path / "whole", whole, small_data)
            assert numbers_of(tmp_path / "again", whole, small_data) == wanted
        assert tested["test_nll"] == wanted["figures"]["test_nll"]

    def test_that_differ_are_named(self, config: Config, small_data: Dataset) -> None:
        with jax_settings.applied({"enable_x64": True}):
            there = noting_settings(config)
        assert differences(there, config) == ["JAX_ENABLE_X64 is True, not False"]
        # A configuration from before they were recorded had JAX's defaults.
        assert not differences(dataclasses.replace(config, jax_settings=None), config)

    def test_of_a_run_that_did_not_note_them_are_not_taken_for_damage(
        self, config: Config, small_data: Dataset, tmp_path: Path
    ) -> None:
        with jax_settings.applied({"enable_x64": True}):
            run.train(noting_settings(config), small_data, tmp_path / "run")
        unnoted = dataclasses.replace(config, jax_settings=None)
        write_json(tmp_path / "run" / "config.json", unnoted.to_json())
        before = files_under(tmp_path / "run")
        with pytest.raises(UserError, match="set JAX_ENABLE_X64 as it was"):
            run.test(unnoted, small_data, tmp_path / "run")
        assert files_under(tmp_path / "run") == before

    def test_are_those_of_the_run_in_its_predictions(
        self, config: Config, small_data: Dataset, tmp_path: Path
    ) -> None:
        for x64 in (True, False):
            with jax_settings.applied({"enable_x64": x64}):
                run.train(noting_settings(config), small_data, tmp_path / str(x64))
            here, there = (
                _predicted(tmp_path / str(x64), setting, small_data.test.images[:5])
                for setting in (x64, not x64)
            )
            np.testing.assert_array_equal(here, there)

    def test_that_are_impossible_are_refused(self, tmp_path: Path) -> None:
        with (
            pytest.raises(UserError, match="JAX_DEFAULT_MATMUL_PRECISION cannot be 'nonsense'"),
            jax_settings.applied({"default_matmul_precision": "nonsense"}),
        ):
            pass

    def test_come_back(self) -> None:
        before = {name: getattr(jax.config, f"jax_{name}") for name in jax_settings.DEFAULTS}
        with pytest.raises(KeyError), jax_settings.applied({"enable_x64": True}):
            assert jax_settings.current()["enable_x64"]
            raise KeyError
        assert jax_settings.current() == before

    def test_that_look_for_nan_change_nothing(
        self, config: Config, small_data: Dataset, tmp_path: Path
    ) -> None:
        diverging = dataclasses.replace(config, learning_rate=1e20)
        told = []
        for name, looks in (("plain", False), ("looking", True)):
            jax.config.update("jax_debug_nans", looks)
            try:
                with pytest.raises(RunFailedError) as caught:
                    run.train(diverging, small_data, tmp_path / name)
                assert getattr(jax.config, "jax_debug_nans") == looks  # noqa: B009
            finally:
                jax.config.update("jax_debug_nans", False)
            assert (tmp_path / name / "diverged").is_dir()
            told.append(str(caught.value).replace(name, ""))
        assert told[0] == told[1]

    @pytest.mark.parametrize(
        "aid",
        [
            {"jax_transfer_guard": "disallow"},
            {"jax_numpy_rank_promotion": "raise", "jax_numpy_dtype_promotion": "strict"},
        ],
        ids=str,
    )
    def test_that_forbid_what_a_run_does_are_off(
        self, aid: dict[str, str], config: Config, small_data: Dataset, tmp_path: Path
    ) -> None:
        wanted = run.train(config, small_data, tmp_path / "plain")
        before = {name: getattr(jax.config, name) for name in aid}
        try:
            for name, value in aid.items():
                jax.config.update(name, value)
            found = run.train(config, small_data, tmp_path / "forbidden")
            assert run.test(config, small_data, tmp_path / "forbidden") == found
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
        assert found["test_nll"] == wanted["test_nll"]
