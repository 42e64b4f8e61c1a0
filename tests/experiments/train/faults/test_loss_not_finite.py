import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cli.errors import RunFailedError
from experiments.data.datasets import Dataset
from experiments.runtime import devices
from experiments.train import run
from experiments.train.config import Config, read_config
from experiments.train.steps import programs, training
from experiments.train.steps.setup import Setup, make_setup
from tests.experiments import runner
from tests.experiments.tiny import Steps


class TestLossNotFinite:
    def test_tells_where_and_saves_the_state(
        self, mnist_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "run"
        code, _, stderr = runner.run_here(
            capfd,
            f"--mnist_path={mnist_folder}",
            "--train_per_class=20",
            "--batch_size=8",
            "--num_epochs=4",
            f"--savedir={folder}",
            "--learning_rate=1e30",
        )
        assert code == 1
        assert stderr.count("\n") == 1
        for part in (
            "error: the loss is not finite: epoch 1, step 1, seed 0 ",
            "cross_entropy ",
            "kl_divergence ",
            "prior_negative_entropy ",
            "its key is fold_in(seed_keys(0).noise, 1)",
            f"the state is saved in {folder / 'diverged'}",
            "a lower learning rate may help",
        ):
            assert part in stderr
        assert [path.name for path in (folder / "diverged").iterdir()] == ["10"]
        assert not (folder / "summary.json").exists()
        assert list((folder / "checkpoints").iterdir()) == []

    def test_the_key_it_names_reproduces_it(
        self, dropmax_config: Config, small_data: Dataset, tmp_path: Path
    ) -> None:
        config = dataclasses.replace(dropmax_config, learning_rate=1e20)
        with pytest.raises(RunFailedError) as caught:
            run.train(config, small_data, tmp_path)
        found = re.search(
            r"step (\d+), seed 0 .* its key is fold_in\((.*), (\d+)\)", str(caught.value)
        )
        assert found is not None
        step = int(found[1])
        assert step > 0
        assert (found[2], int(found[3])) == ("seed_keys(0).noise", step)
        # We recompute it from the state before that step, its images, and the key.
        setup = make_setup(config, 200)
        state = jax.tree.map(lambda leaf: leaf[0], Steps(setup, small_data.train)(step))
        assert state.first_bad_step == training.NO_STEP
        keys = training.seed_keys(0)
        order = jax.random.permutation(jax.random.fold_in(keys.shuffle, 0), 200)
        rows = order[step * config.batch_size : (step + 1) * config.batch_size]
        images, labels = small_data.train.images[rows], small_data.train.labels[rows]

        def one_device(images: jax.Array, labels: jax.Array) -> training.TrainState:
            key = jax.random.fold_in(keys.noise, step)
            return training.train_step(setup, state, key, jnp.int32(step), images, labels)

        on_devices = jax.jit(jax.vmap(one_device, axis_name=devices.AXIS))
        after = on_devices(images[None], labels[None])
        assert after.first_bad_step.tolist() == [step]

    def test_names_the_seed(
        self,
        finished_run: Path,
        small_data: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Only the second of two seeds has a bad parameter."""
        config = read_config(finished_run / "config.json")
        initial = programs.initial_states

        def second_is_bad(setup: Setup, seeds: jax.Array) -> training.TrainState:
            state = initial(setup, seeds)
            params = jax.tree.map(lambda leaf: leaf.at[1].set(np.nan), state.params)
            return state._replace(params=params)

        monkeypatch.setattr(programs, "initial_states", second_is_bad)
        with pytest.raises(RunFailedError, match="epoch 1, step 0, seed 1 "):
            run.train(config, small_data, tmp_path)

    def test_after_the_last_step_it_is_noticed_too(
        self, dropmax_config: Config, small_data: Dataset, tmp_path: Path
    ) -> None:
        """The only step has a finite loss, and the parameters it leaves are not fit for use."""
        config = dataclasses.replace(
            dropmax_config, num_epochs=1, batch_size=200, learning_rate=1e37
        )
        with pytest.raises(RunFailedError, match="not finite"):
            run.train(config, small_data, tmp_path)
        assert not (tmp_path / "summary.json").exists()
