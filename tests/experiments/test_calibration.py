import csv
import dataclasses
import json
import math
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import sklearn.metrics

from experiments import trained
from experiments.calibration import __main__ as calibration
from experiments.calibration import comparison, measures, predictions, report
from experiments.calibration.measures import Measurement, measure_predictions
from experiments.calibration.predictions import Predictions
from experiments.cli.errors import UserError
from experiments.cli.stopping import Stopped
from experiments.data.datasets import Dataset
from experiments.data.forms import variants
from experiments.reports.statistics import mean_and_half_width
from experiments.train import run
from experiments.train.config import Config
from experiments.trained import TrainedRun
from tests.experiments import runner
from tests.experiments.runner import files_under

METHODS = ("softmax", "temperature_scaling", "mc_dropout", "dropmax", "dropmax_monte_carlo")
SAMPLED = {"mc_dropout", "dropmax_monte_carlo"}
NAMES = ("clean", "background_random")
CLEAN_5K = ("--dataset=mnist_5k", "--variants=clean")
FILES = [f"{name}.{kind}" for name in ("calibration", "detection") for kind in ("csv", "md", "png")]


@pytest.fixture(scope="module", autouse=True)
def _programs_are_kept() -> Iterator[None]:
    """Programs are compiled once for all runs here; tests of runs check that runs forget them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "clear_caches", lambda: None)
        yield


@pytest.fixture(scope="module")
def config(mnist_folder: Path) -> Config:
    return Config(
        "softmax",
        dataset="auto",
        mnist_path=str(mnist_folder),
        network="tiny",
        train_per_class=20,
        num_epochs=3,
        batch_size=20,
        seeds=(0, 1),
    )


@pytest.fixture(scope="module")
def finished(config: Config, small_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment on two variants; tests that write copy it."""
    folder = tmp_path_factory.mktemp("calibration") / "finished"
    comparison.compare(config, small_data, NAMES, folder)
    return folder


@pytest.fixture(scope="module")
def models(finished: Path) -> dict[str, TrainedRun]:
    """The models that were trained on clean images."""
    return {model: trained.load(finished / "clean" / model) for model in predictions.PREDICTORS}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def measurement(folder: Path, method: str) -> Measurement:
    for path in folder.glob("*/measurements.json"):
        methods = json.loads(path.read_text())["methods"]
        if method in methods:
            return Measurement.from_json(methods[method])
    raise AssertionError(f"{folder} has no {method}")


def drawn(seed: int, num_seeds: int = 2, count: int = 300) -> Predictions:
    """Made-up predictions, with scores that disagree."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(num_seeds, count, 10))
    return Predictions(
        scipy.special.log_softmax(logits, -1).astype(np.float32),
        rng.random((num_seeds, count)).astype(np.float32),
    )


def labels_of(predicted: Predictions) -> np.ndarray:
    """Labels that about half of the predictions match."""
    best = predicted.log_probs[0].argmax(-1)
    is_other = np.random.default_rng(0).random(len(best)) < 0.5
    return np.where(is_other, (best + 1) % 10, best).astype(np.int32)


def numpy_ece_percent(probs: np.ndarray, labels: np.ndarray) -> float:
    confidence, is_right = probs.max(-1), probs.argmax(-1) == labels
    places = np.digitize(confidence, np.linspace(0, 1, 16)[1:-1], right=True)
    gaps = [abs(np.sum((is_right - confidence)[places == place])) for place in range(15)]
    return 100 * float(np.sum(gaps)) / len(labels)


class TestMeasurement:
    def test_figures_are_scikit_learns_and_numpys(self) -> None:
        predicted = drawn(0)
        labels = labels_of(predicted)
        figures = measure_predictions(predicted, labels, {}).figures
        for seed, log_probs in enumerate(predicted.log_probs):
            probs = np.exp(log_probs.astype(float))
            error = 1 - sklearn.metrics.accuracy_score(labels, probs.argmax(-1))
            probs /= probs.sum(-1, keepdims=True)  # float32 leaves them 1e-7 off
            nll = sklearn.metrics.log_loss(labels, probs, labels=range(10))
            brier = np.mean(np.sum((probs - np.eye(10)[labels]) ** 2, -1))
            ece = numpy_ece_percent(probs, labels)
            order = np.argsort(probs.max(-1))
            right = probs.argmax(-1) == labels
            gaps = [abs(np.sum((right - probs.max(-1))[b])) for b in np.split(order, 15)]
            adaptive = 100 * np.sum(gaps) / 300
            actual = {name: values[seed] for name, values in figures.items()}
            expected = {
                "error_percent": 100 * error,
                "nll": nll,
                "ece_percent": ece,
                "adaptive_ece_percent": adaptive,
                "brier": brier,
            }
            assert actual == pytest.approx(expected, rel=1e-4)

    def test_bins_hold_all_seeds(self) -> None:
        predicted = drawn(0)
        labels = labels_of(predicted)
        bins = measure_predictions(predicted, labels, {}).bins
        assert sum(bins["counts"]) == 600
        right = np.dot(bins["counts"], bins["accuracy"])
        assert right == pytest.approx(np.sum(predicted.log_probs.argmax(-1) == labels), rel=1e-5)

    def test_detection_is_scikit_learns(self) -> None:
        test, other = drawn(0), drawn(1, count=200)
        labels = labels_of(test)
        measured = measure_predictions(test, labels, {"other": other})
        probs, others = np.exp(test.log_probs), np.exp(other.log_probs)
        entropy, of_other = (-np.sum(p * np.log(p), -1) for p in (probs, others))
        assert test.mutual_information is not None
        assert other.mutual_information is not None
        for name, inside, outside in (
            ("predictive_entropy", entropy, of_other),
            ("mutual_information", test.mutual_information, other.mutual_information),
        ):
            score = measured.scores[name]
            for seed in range(2):
                is_error = probs[seed].argmax(-1) != labels
                expected = sklearn.metrics.roc_auc_score(is_error, inside[seed])
                assert score.auroc["errors"][seed] == pytest.approx(expected, abs=1e-4)
                both = np.concatenate([inside[seed], outside[seed]])
                expected = sklearn.metrics.roc_auc_score(np.arange(500) >= 300, both)
                assert score.auroc["other"][seed] == pytest.approx(expected, abs=1e-4)
                risks = np.cumsum(is_error[np.argsort(inside[seed])]) / np.arange(1, 301)
                assert score.aurc_percent[seed] == pytest.approx(100 * risks.mean(), rel=1e-3)

    def test_the_curve_ends_at_the_error(self) -> None:
        predicted = drawn(0)
        measured = measure_predictions(predicted, labels_of(predicted), {})
        for score in measured.scores.values():
            assert len(score.risk_percent) == 100
            error = np.mean(measured.figures["error_percent"])
            assert score.risk_percent[-1] == pytest.approx(error, rel=1e-4)

    def test_of_few_images_without_errors_as_json_and_back(self) -> None:
        predicted = drawn(0, num_seeds=1, count=3)
        labels = predicted.log_probs[0].argmax(-1)
        measured = measure_predictions(predicted, labels, {})
        assert math.isnan(measured.scores["predictive_entropy"].auroc["errors"][0])
        text = json.dumps(measured.to_json(), allow_nan=False)
        back = Measurement.from_json(json.loads(text))
        assert str(back) == str(measured)


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


class TestFiles:
    def test_all_are_there(self, finished: Path) -> None:
        names = {path.name for path in finished.iterdir()} - {".lock"}
        assert names == {*FILES, *NAMES}
        for name in ("calibration.png", "detection.png"):
            assert (finished / name).read_bytes().startswith(b"\x89PNG")

    def test_calibration_holds_every_method_of_every_variant(self, finished: Path) -> None:
        table = rows(finished / "calibration.csv")
        assert [(row["images"], row["method"]) for row in table] == [
            (images, method) for images in NAMES for method in METHODS
        ]
        for row in table:
            figures = measurement(finished / row["images"], row["method"]).figures
            assert row["num_seeds"] == "2"
            for name, values in figures.items():
                mean, half_width = mean_and_half_width(values)
                assert float(row[name]) == pytest.approx(mean)
                assert float(row[f"{name}_half_width"]) == pytest.approx(half_width)

    def test_temperature_changes_confidence_and_no_prediction(self, finished: Path) -> None:
        table = {(row["images"], row["method"]): row for row in rows(finished / "calibration.csv")}
        for images in NAMES:
            before, after = table[images, "softmax"], table[images, "temperature_scaling"]
            assert before["error_percent"] == after["error_percent"]
            assert before["nll"] != after["nll"]

    def test_detection_holds_every_score(self, finished: Path) -> None:
        table = rows(finished / "detection.csv")
        expected = [
            (images, method, score)
            for images in NAMES
            for method in METHODS
            for score in ("predictive_entropy", "mutual_information")
            if score == "predictive_entropy" or method in SAMPLED
        ]
        assert [(row["images"], row["method"], row["score"]) for row in table] == expected
        for row in table:
            for kind in ("errors", *variants.UNFAMILIAR):
                assert 0 <= float(row[f"{kind}_auroc"]) <= 1

    @pytest.mark.parametrize("name", ["calibration", "detection"])
    def test_markdown_is_a_table(self, finished: Path, name: str) -> None:
        text = (finished / f"{name}.md").read_text(encoding="utf-8")
        assert text.startswith("digits, tiny, 200 training images, 200 test images, 3 epochs, 2 ")
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert len(lines) == 2 + len(rows(finished / f"{name}.csv"))
        assert len({line.count("|") for line in lines}) == 1
        assert "nan" not in "".join(lines)
        assert str(finished.parent) not in text

    def test_the_papers_figures_stand_beside_those_of_its_images_only(
        self, finished: Path, small_data: Dataset, config: Config, tmp_path: Path
    ) -> None:
        assert "12.89" not in (finished / "calibration.md").read_text(encoding="utf-8")
        measured = {
            images: {method: measurement(finished / images, method) for method in METHODS}
            for images in NAMES
        }
        train = small_data.train._replace(labels=np.zeros(1000, np.int32))
        mnist_1k = small_data._replace(name="mnist", train=train)
        report.write(measured, config, mnist_1k, tmp_path)
        lines = (tmp_path / "calibration.md").read_text(encoding="utf-8").splitlines()
        (softmax,) = (line for line in lines if line.startswith("| background_random | `softmax`"))
        assert softmax.endswith("| 12.89 | 1.52 |")
        (clean,) = (line for line in lines if line.startswith("| clean | `softmax`"))
        assert clean.endswith("|  |  |")

    def test_a_single_seed_has_no_interval(self) -> None:
        record = {"images": "clean", "method": "softmax", "nll": 0.5, "nll_half_width": math.nan}
        table = report.to_markdown([record], {"nll": ("NLL", 3)})
        assert table.splitlines()[-1] == "| clean | `softmax` | 0.500 |"


class TestAgain:
    @pytest.fixture
    def copy(self, finished: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(finished, tmp_path / "copy"))

    def test_missing_and_damaged_measurements_are_made_again(
        self, config: Config, small_data: Dataset, copy: Path
    ) -> None:
        before = files_under(copy)
        (copy / "background_random/softmax/measurements.json").unlink()
        for folder, content in (
            ("clean/softmax", ""),
            ("clean/dropmax", "null"),
            ("background_random/dropmax", '{"of": 1, "methods": {}}'),
        ):
            (copy / folder / "measurements.json").write_text(content)
        comparison.compare(config, small_data, NAMES, copy)
        assert files_under(copy) == before

    def test_stopped_in_training_it_goes_on(
        self,
        config: Config,
        small_data: Dataset,
        finished: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        stopped = tmp_path / "stopped"
        with monkeypatch.context() as patch:
            patch.setattr(
                "experiments.cli.progress.Progress.epoch_done",
                lambda *_: os.kill(os.getpid(), signal.SIGINT),
            )
            with pytest.raises(Stopped, match="run the same command again to go on") as caught:
                comparison.compare(config, small_data, ("clean",), stopped)
        assert caught.value.exit_code == 130
        folder = stopped / "clean" / "softmax"
        assert str(folder) in str(caught.value)
        assert (folder / "checkpoints").is_dir()
        assert not (folder / "summary.json").exists()
        # Tests of runs show that it goes on from there.
        shutil.copytree(finished / "clean" / "mc_dropout", stopped / "clean" / "mc_dropout")
        shutil.copytree(finished / "clean" / "dropmax", stopped / "clean" / "dropmax")
        comparison.compare(config, small_data, ("clean",), stopped)
        made = (folder / "measurements.json").read_bytes()
        assert made == (finished / "clean" / "softmax" / "measurements.json").read_bytes()

    def test_a_variant_alone(self, config: Config, small_data: Dataset, copy: Path) -> None:
        comparison.compare(config, small_data, ("background_random",), copy)
        images = {row["images"] for row in rows(copy / "calibration.csv")}
        assert images == {"background_random"}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"num_epochs": 4}, "its num_epochs is 3, not 4"),
            ({"seeds": (0, 1, 2)}, "its seeds is [0, 1], not [0, 1, 2]"),
            ({"network": "cnn"}, "its network is tiny, not cnn"),
            ({"batch_size": 201}, "--batch_size=201 is larger"),
        ],
    )
    def test_another_experiment_is_refused(
        self,
        config: Config,
        small_data: Dataset,
        copy: Path,
        change: dict[str, Any],
        message: str,
    ) -> None:
        before = files_under(copy)
        other = dataclasses.replace(config, **change)
        with pytest.raises(UserError, match=re.escape(message)):
            comparison.compare(other, small_data, NAMES, copy)
        assert files_under(copy) == before

    def test_checkpoints_of_an_unknown_run_are_refused(
        self, config: Config, small_data: Dataset, copy: Path
    ) -> None:
        (copy / "clean" / "dropmax" / "config.json").unlink()
        before = files_under(copy)
        with pytest.raises(UserError, match=r"dropmax holds checkpoints but no config\.json"):
            comparison.compare(config, small_data, NAMES, copy)
        assert files_under(copy) == before


class TestCommand:
    def test_makes_the_files_of_what_is_done_and_does_nothing_again(
        self,
        finished: Path,
        mnist_folder: Path,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(run, "train", None)
        monkeypatch.setattr(measures, "measure", None)
        copy = tmp_path / "copy"
        shutil.copytree(finished, copy)
        for name in FILES:
            (copy / name).unlink()
        code, stdout, stderr = runner.run_here(
            capfd,
            f"--mnist_path={mnist_folder}",
            f"--savedir={copy}",
            f"--variants={','.join(NAMES)}",
            "--train_per_class=20",
            "--num_epochs=3",
            "--batch_size=20",
            "--num_seeds=2",
            "--network=tiny",
            module=calibration,
        )
        assert (code, stderr) == (0, "")
        assert "clean, softmax: done before" in stdout
        for name in ("calibration", "detection"):
            assert (finished / f"{name}.md").read_text(encoding="utf-8") in stdout
        assert files_under(copy) == files_under(finished)

    def test_help_answers_at_once(self) -> None:
        stdout = runner.help_at_once("experiments.calibration")
        assert set(re.findall(r"^  --(?:\[no\])?(\w+):", stdout, re.MULTILINE)) == {
            *("accumulate", "augmentation", "batch_size", "data_dir", "data_path", "dataset"),
            "dropout_rate",
            *("image_size", "learning_rate", "mnist_path", "network", "num_classes", "num_epochs"),
            *("num_seeds", "optimizer", "precision", "savedir", "schedule", "seed"),
            *("train_per_class", "variants", "weight_decay"),
        }
        for variant in variants.VARIANTS:
            assert re.search(rf"\b{variant}\b", stdout)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--variants=nonsense"], "--variants=nonsense: 'nonsense': must be one of clean, "),
            (["--variants=clean,"], "--variants=clean,: '': must be one of"),
            (["--variants="], "--variants=: '': must be one of"),
            (["--num_seeds=0"], "num_seeds"),
            (["--num_epochs=1.5"], "num_epochs"),
            (["--train_per_class=-1"], "train_per_class"),
            (["--network=nonsense"], "network"),
            (["--dataset=nonsense"], "dataset"),
            (["--variant=clean"], "variants"),
            (["clean"], "unexpected argument 'clean'"),
            (["--mnist_path=no_such_folder"], "no_such_folder"),
            (["--dataset=mnist_5k", "--train_per_class=201"], "possible is 200"),
            ([*CLEAN_5K, "--batch_size=1001"], "--batch_size=1001 is larger"),
            ([*CLEAN_5K, "--savedir=/dev/null/x"], "cannot write to /dev/null/x"),
        ],
    )
    def test_a_mistake_is_told_in_a_line_and_leaves_no_trace(
        self,
        in_tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        arguments: list[str],
        message: str,
    ) -> None:
        code, _, stderr = runner.run_here(capfd, *arguments, module=calibration)
        assert code == 2
        assert stderr.startswith("error: ")
        assert message in stderr
        assert stderr.count("\n") == 1
        assert list(in_tmp_path.iterdir()) == []
