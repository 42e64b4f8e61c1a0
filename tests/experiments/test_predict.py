"""The command `experiments.predict`, from files to classes."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments import predict, trained
from experiments.data import datasets
from experiments.data.datasets import Dataset
from experiments.train import run
from experiments.train.config import Config
from tests.experiments.drawn import STROKES, draw
from tests.experiments.runner import Outcome, files_under, help_at_once, run_here

Predict = Callable[..., Outcome]


@pytest.fixture(scope="session")
def real_digits() -> Dataset:
    return datasets.load("mnist_5k", train_per_class=200)


@pytest.fixture(scope="session")
def learned_run(real_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DropMax trained on 2,000 real digits for 60 epochs, as seeds 0 and 1; do not change it.

    The error is 90 % without learning. Masks that drop the true class, a loss with the wrong sign
    of a term, or labels out of step with their images all leave it above 12 %.
    """
    folder = tmp_path_factory.mktemp("learned") / "run"
    config = Config(
        "dropmax", "tiny", batch_size=50, num_epochs=60, learning_rate=5e-3, seeds=(0, 1)
    )
    config = datasets.configured(config, real_digits)
    summary = run.train(config, real_digits, folder)
    assert max(summary["test_error_percent"]) < 12
    assert max(summary["test_nll"]) < 0.5
    return folder


@pytest.fixture
def predicted(learned_run: Path, capfd: pytest.CaptureFixture[str]) -> Predict:
    """Runs the command on the learned run."""

    def run_command(*arguments: object) -> Outcome:
        texts = map(str, arguments)
        return run_here(capfd, f"--run={learned_run}", *texts, module=predict)

    return run_command


def objects_of(outcome: Outcome) -> list[dict[str, Any]]:
    assert outcome.code == 0, outcome.stderr
    values: list[dict[str, Any]] = json.loads(outcome.stdout)
    return values


def save(folder: Path, name: str, picture: np.ndarray) -> Path:
    Image.fromarray(picture).save(folder / name)
    return folder / name


def test_images_of_the_test_set_have_the_runs_own_predictions(
    predicted: Predict, learned_run: Path, real_digits: Dataset, tmp_path: Path
) -> None:
    images = real_digits.test.images[::200]
    files = [save(tmp_path, f"{number}.png", image) for number, image in enumerate(images)]
    found = objects_of(predicted("--json", *files))
    model = trained.load(learned_run)
    # These are the predictions of the run's own test: see test_trained.
    probs = np.exp(model.log_probs(real_digits.test.images)[:, ::200]).mean(0)
    np.testing.assert_allclose([one["probabilities"] for one in found], probs, atol=1e-5)
    prior_logits = model.heads(images).prior_logits
    assert prior_logits is not None
    retained = (1 / (1 + np.exp(-prior_logits))).mean(0)
    np.testing.assert_allclose([one["retain_probabilities"] for one in found], retained, atol=1e-5)
    for one, file, expected in zip(found, files, probs, strict=True):
        assert one["file"] == str(file)
        assert one["index"] is None
        assert one["done"] == "left as it is"
        assert one["class"] == expected.argmax()
        entropy = -sum(p * math.log(p) for p in expected.tolist())
        assert one["predictive_entropy"] == pytest.approx(entropy, abs=1e-4)


def test_a_file_of_several_images_is_the_same_as_the_files_of_each(
    predicted: Predict, real_digits: Dataset, tmp_path: Path
) -> None:
    images = real_digits.test.images[::500]
    np.save(tmp_path / "all.npy", images)
    files = [save(tmp_path, f"{number}.png", image) for number, image in enumerate(images)]
    together = objects_of(predicted("--json", tmp_path / "all.npy"))
    assert [one["index"] for one in together] == [0, 1, 2, 3]
    # Flags may come last.
    apart = objects_of(predicted(*files, "--json"))
    same = ("class", "probabilities", "done")
    assert [[one[name] for name in same] for one in together] == [
        [one[name] for name in same] for one in apart
    ]


@pytest.mark.parametrize(
    "kind", ["plain", "shade", "noise", "transparent", "turned", "light on dark", "photo"]
)
def test_drawn_digits_are_told(predicted: Predict, tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    files = []
    for digit in STROKES:
        picture, exif, file = draw(digit), Image.Exif(), tmp_path / f"{digit}.png"
        if kind in {"shade", "photo"}:
            picture = np.rint(picture * np.linspace(1, 0.4, 200)).astype(np.uint8)
        if kind in {"noise", "photo"}:
            noisy = picture + rng.normal(0, 8, picture.shape)
            picture = np.clip(noisy, 0, 255).astype(np.uint8)
        if kind == "light on dark":
            picture = 255 - picture
        image = Image.fromarray(picture)
        if kind == "transparent":
            ink = Image.fromarray(255 - picture)
            image = Image.merge("RGBA", [Image.new("L", image.size, 0)] * 3 + [ink])
        if kind in {"turned", "photo"}:
            # The picture was taken with the camera on its side.
            image, exif[0x0112] = image.rotate(90, expand=True), 6
        if kind == "photo":
            image, file = image.convert("RGB").resize((900, 1200)), tmp_path / f"{digit}.jpg"
        image.save(file, exif=exif)
        files.append(file)
    found = objects_of(predicted("--json", *files))
    assert [one["class"] for one in found] == list(STROKES)
    assert all(one["done"].endswith("centred") for one in found)


def test_the_table_says_what_was_done_and_found(predicted: Predict, tmp_path: Path) -> None:
    file = save(tmp_path, "three.png", draw(3))
    (one,) = objects_of(predicted("--json", file))
    outcome = predicted(file)
    assert outcome.code == 0
    assert outcome.stderr == ""
    head, gap, first, done, classes, probs, retained = outcome.stdout.splitlines()
    assert head.endswith(": dropmax, tiny, the mean over 2 seeds")
    assert gap == ""
    assert first == (
        f"{file}: 3, probability {one['probabilities'][3]:.3f}, predictive entropy "
        f"{one['predictive_entropy']:.3f} nats"
    )
    assert done.strip() == one["done"]
    assert classes.split() == ["class", *map(str, range(10))]
    assert probs.split() == ["probability", *(f"{p:.3f}" for p in one["probabilities"])]
    assert retained.split() == ["retained", *(f"{p:.3f}" for p in one["retain_probabilities"])]


def test_a_model_without_masks_has_no_retain_probabilities(
    capfd: pytest.CaptureFixture[str], finished_run: Path, tmp_path: Path
) -> None:
    file = save(tmp_path, "three.png", draw(3))
    arguments = (f"--run={finished_run}", str(file))
    (one,) = objects_of(run_here(capfd, *arguments, "--json", module=predict))
    assert one["retain_probabilities"] is None
    table = run_here(capfd, *arguments, module=predict).stdout
    assert "retained" not in table


def test_raw_images_are_left_alone(predicted: Predict, learned_run: Path, tmp_path: Path) -> None:
    picture = np.asarray(Image.fromarray(draw(3)).resize((28, 28)))
    file = save(tmp_path, "a.png", picture)
    (raw,) = objects_of(predicted("--json", "--raw", file))
    assert raw["done"] == "left as it is"
    expected = np.exp(trained.load(learned_run).log_probs(picture[None])).mean(0)[0]
    np.testing.assert_allclose(raw["probabilities"], expected, atol=1e-5)
    (prepared,) = objects_of(predicted("--json", file))
    assert prepared["done"].startswith("inverted")


def test_nothing_is_written_to_the_run(
    predicted: Predict, learned_run: Path, tmp_path: Path
) -> None:
    before = files_under(learned_run)
    assert predicted(save(tmp_path, "a.png", draw(3))).code == 0
    assert files_under(learned_run) == before


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no image": ([], "name an IMAGE; --help says which there can be"),
    "missing": (["none.png"], "none.png: No such file or directory"),
    "folder": (["."], ". is not a file"),
    "empty name": ([""], ". is not a file"),
    "damaged": (["damaged.png"], "damaged.png is damaged"),
    "blank": (["blank.png"], "no digit found in blank.png"),
    "one blank of several": (["blank.npy"], "no digit found in blank.npy[1]"),
    "raw of another size": (["--raw", "3.png"], "3.png has 200x150 pixels: --raw needs 28x28"),
    "good, then missing": (["3.png", "none.png"], "none.png: No such file"),
    "unknown flag": (["3.png", "--nonsense"], "Unknown command line flag 'nonsense'"),
    "no run": (["--run=nowhere", "3.png"], "there is no run in nowhere"),
    "empty run": (["--run=", "3.png"], "--run=: must be a path"),
}


@pytest.mark.parametrize("kind", list(MISTAKES))
def test_a_mistake_is_told_in_a_line(predicted: Predict, in_tmp_path: Path, kind: str) -> None:
    arguments, message = MISTAKES[kind]
    save(in_tmp_path, "3.png", draw(3))
    save(in_tmp_path, "blank.png", np.full((90, 90), 230, np.uint8))
    np.save(in_tmp_path / "blank.npy", np.stack([draw(3), np.full_like(draw(3), 99)]))
    (in_tmp_path / "damaged.png").write_bytes((in_tmp_path / "3.png").read_bytes()[:200])
    code, stdout, stderr = predicted(*arguments)
    assert code == 2
    assert stdout == ""
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert message in stderr


def test_help_is_answered_at_once() -> None:
    stdout = help_at_once("experiments.predict")
    for name in ("IMAGE", "--run:", "--[no]raw:", "--[no]json:"):
        assert name in stdout
