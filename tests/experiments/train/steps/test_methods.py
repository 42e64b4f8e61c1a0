import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import METHODS, Heads
from dropmax_jax.method import SingleTerm
from experiments.data import datasets
from experiments.data.datasets import Dataset
from experiments.train import run
from experiments.train.config import Config
from experiments.train.steps import programs
from experiments.train.steps.setup import make_setup
from tests.experiments.tiny import DROPMAX, Steps

# One of each kind that a trainer can tell apart: by heads, dropout and samples, what is fitted.
OF_EACH_KIND = {"softmax", "dropmax_prior", "dropmax", "mc_dropout", "temperature_scaling"}


class TestEveryMethod:
    @pytest.mark.parametrize(
        "model",
        [
            pytest.param(model, marks=[] if model in OF_EACH_KIND else pytest.mark.slow)
            for model in sorted(METHODS)
        ],
    )
    def test_trains_tests_and_tells_finite_numbers(
        self, model: str, small_data: Dataset, tmp_path: Path
    ) -> None:
        config = Config(
            model, network="tiny", batch_size=8, num_epochs=6, learning_rate=1e-2, seeds=(0, 1)
        )
        config = datasets.configured(config, small_data)
        summary = run.train(config, small_data, tmp_path, save_every=2)
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        # JSON has no NaN.
        entries = [json.loads(line, parse_constant=pytest.fail) for line in lines]
        losses = np.array([entry["train_loss"] for entry in entries])
        assert np.all(losses[-1] < losses[0] - 0.1)
        terms = entries[0].keys() - {
            "epoch",
            "seconds",
            "train_loss",
            "train_error_percent",
            "validation_error_percent",
        }
        for entry in entries:
            for name in terms:
                assert len(entry[name]) == 2
            if terms:
                total = sum(np.array(entry[name]) for name in terms)
                np.testing.assert_allclose(total, entry["train_loss"], rtol=1e-4, atol=1e-5)
        (tmp_path / "summary.json").unlink()
        assert run.test(config, small_data, tmp_path) == summary
        assert np.all(np.array(summary["test_error_percent"]) < 80)
        json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)

    @pytest.mark.parametrize("model", sorted(METHODS))
    def test_terms_are_told_by_name(self, model: str) -> None:
        setup = make_setup(Config(model, network="tiny"), 200)
        totals = programs.abstract_states(setup, (0, 1)).totals
        heads = Heads(**{name: jnp.zeros(10) for name in METHODS[model].heads})
        terms = jax.eval_shape(METHODS[model].terms, jax.random.key(0), heads, jnp.int32(3))
        assert set(totals) == {"loss", "errors", *terms}
        assert {leaf.shape for leaf in totals.values()} == {(2,)}


def test_hyperparameters_reach_the_loss(small_data: Dataset) -> None:
    losses = []
    for chosen in ({}, {"temperature": 0.1}, {"temperature": 5.0}):
        config = dataclasses.replace(DROPMAX, hyperparameters=chosen)
        steps = Steps(make_setup(config, 200), small_data.train)
        losses.append(float(steps(1).totals["cross_entropy"][0]))
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


@pytest.mark.parametrize("name", ["errors", "loss", "epoch", "train_loss"])
def test_a_term_cannot_have_the_name_of_a_metric(name: str) -> None:
    setup = make_setup(Config("softmax", network="tiny"), 200)
    method = dataclasses.replace(
        setup.method, loss_and_terms=SingleTerm(name, lambda key, heads, labels: jnp.zeros(()))
    )
    with pytest.raises(ValueError, match=f"a term of the loss cannot be called {name}"):
        programs.abstract_states(dataclasses.replace(setup, method=method), (0,))
