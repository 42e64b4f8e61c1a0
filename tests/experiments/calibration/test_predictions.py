import json
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import scipy.special

from experiments.calibration import predictions
from experiments.data.datasets import Dataset
from experiments.trained import TrainedRun
from tests.experiments.calibration.results import SAMPLED, measurement


class TestPredictions:
    def test_softmax_and_its_temperature(
        self, models: dict[str, TrainedRun], small_data: Dataset
    ) -> None:
        model, test, validation = models["softmax"], small_data.test, small_data.validation
        predicted = predictions.softmax(model, validation)(test)
        assert list(predicted) == ["softmax", "temperature_scaling"]
        logits = np.asarray(model.heads(test.images).logits, float)
        of_validation = np.asarray(model.heads(validation.images).logits, float)
        for seed in range(2):

            def nll(inverse: float, seed: int = seed) -> float:
                log_probs = scipy.special.log_softmax(inverse * of_validation[seed], -1)
                return -float(np.mean(log_probs[np.arange(1000), validation.labels]))

            inverse = scipy.optimize.minimize_scalar(nll, (0.1, 1.0)).x
            for method, scale in (("softmax", 1.0), ("temperature_scaling", inverse)):
                expected = scipy.special.log_softmax(scale * logits[seed], -1)
                np.testing.assert_allclose(
                    predicted[method].log_probs[seed], expected, rtol=1e-2, atol=1e-3
                )
                assert predicted[method].mutual_information is None

    def test_dropmax_with_the_mean_mask_and_with_samples(
        self, models: dict[str, TrainedRun], small_data: Dataset
    ) -> None:
        model, test = models["dropmax"], small_data.test
        predicted = predictions.dropmax(model, small_data.validation)(test)
        assert list(predicted) == ["dropmax", "dropmax_monte_carlo"]
        heads = model.heads(test.images)
        logits, prior = np.asarray(heads.logits, float), np.asarray(heads.prior_logits, float)
        expected = scipy.special.log_softmax(logits + scipy.special.log_expit(prior), -1)
        np.testing.assert_allclose(predicted["dropmax"].log_probs, expected, atol=1e-4)
        # These are 1,000 other samples of masks.
        rng = np.random.default_rng(0)
        noise = rng.logistic(size=(1000, *prior[0, :20].shape))
        masks = scipy.special.expit((prior[0, :20] + noise) / 0.1)
        probs = scipy.special.softmax(logits[0, :20] + np.log(masks + 1e-20), -1)
        sampled = np.exp(predicted["dropmax_monte_carlo"].log_probs[0, :20])
        error = probs.std(0) / np.sqrt(predictions.NUM_SAMPLES)
        assert np.mean(np.abs(sampled - probs.mean(0)) < 3 * error + 1e-3) > 0.97

    @pytest.mark.parametrize("model", list(predictions.PREDICTORS))
    def test_are_probabilities_and_the_same_again(
        self, models: dict[str, TrainedRun], small_data: Dataset, model: str
    ) -> None:
        predict = predictions.PREDICTORS[model](models[model], small_data.validation)
        once, again = predict(small_data.test), predict(small_data.test)
        for method, predicted in once.items():
            assert predicted.log_probs.shape == (2, 200, 10)
            np.testing.assert_allclose(np.exp(predicted.log_probs).sum(-1), 1.0, rtol=1e-5)
            np.testing.assert_array_equal(predicted.log_probs, again[method].log_probs)
            assert (predicted.mutual_information is not None) == (method in SAMPLED)
            if predicted.mutual_information is not None:
                assert np.all(predicted.mutual_information >= 0)
                assert predicted.mutual_information.std() > 0

    def test_agree_with_the_summary_of_the_run(
        self, models: dict[str, TrainedRun], finished: Path
    ) -> None:
        for model in models:
            summary = json.loads((finished / "clean" / model / "summary.json").read_text())
            figures = measurement(finished / "clean", model).figures
            for name in ("error_percent", "nll", "ece_percent", "brier"):
                assert figures[name] == pytest.approx(summary[f"test_{name}"], rel=1e-4), name
