"""From a folder of the user's images to a model, its predictions, and the picture of its masks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from experiments import images, masks, predict, trained
from experiments.data import datasets
from experiments.train import run
from experiments.train.config import Config, read_config
from tests.experiments.runner import Outcome, run_here

CLASSES = ("circle", "square", "triangle")
Predict = Callable[..., Outcome]


def draw(kind: str, rng: np.random.Generator) -> Image.Image:
    """A light shape of a random colour, place and size on a darker ground."""
    width, height = rng.integers(40, 65, 2).tolist()
    side = min(width, height)
    radius = rng.uniform(0.28, 0.4) * side
    x, y = (size / 2 + rng.uniform(-0.08, 0.08) * side for size in (width, height))
    picture = Image.new("RGB", (width, height), tuple(rng.integers(0, 100, 3).tolist()))
    pen, colour = ImageDraw.Draw(picture), tuple(rng.integers(150, 256, 3).tolist())
    box = (x - radius, y - radius, x + radius, y + radius)
    if kind == "circle":
        pen.ellipse(box, fill=colour)
    elif kind == "square":
        pen.rectangle(box, fill=colour)
    else:
        pen.polygon([(x, box[1]), (box[0], box[3]), (box[2], box[3])], fill=colour)
    return picture


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 300 PNG files in 3 classes; do not change it."""
    folder, rng = tmp_path_factory.mktemp("data") / "shapes", np.random.default_rng(0)
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True)
        for number in range(100):
            draw(kind, rng).save(folder / kind / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def untrained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch, DropMax with the network `tiny`; do not change it."""
    data = datasets.load("folder", data_path=shapes, train_per_class=None)
    config = Config(
        "dropmax", "tiny", "folder", data_path=str(shapes), train_per_class=None, num_epochs=1
    )
    config = datasets.configured(config, data)
    folder = tmp_path_factory.mktemp("untrained") / "run"
    run.train(config, data, folder)
    return folder


@pytest.fixture
def predicted(untrained: Path, capfd: pytest.CaptureFixture[str]) -> Predict:
    def run_command(*arguments: object) -> Outcome:
        return run_here(capfd, f"--run={untrained}", *map(str, arguments), module=predict)

    return run_command


def objects_of(outcome: Outcome) -> list[dict[str, Any]]:
    assert outcome.code == 0, outcome.stderr
    values: list[dict[str, Any]] = json.loads(outcome.stdout)
    return values


def test_shapes_are_learnt_and_predicted(
    shapes: Path, in_tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two thirds are wrong without learning."""
    outcome = run_here(
        capfd,
        *("--dataset=folder", f"--data_path={shapes}", "--model=softmax", "--network=lenet"),
        *("--num_epochs=12", "--batch_size=20"),
        module=images,
    )
    assert outcome.code == 0, outcome.stderr
    folder = in_tmp_path / "results" / "folder" / "softmax"
    summary = json.loads((folder / "summary.json").read_text())
    assert max(summary["test_error_percent"]) < 5
    config = read_config(folder / "config.json")
    assert config.dataset == "folder:shapes"
    assert config.class_names == CLASSES
    assert config.image_shape == (32, 32, 3)
    files = [str(next((shapes / kind).iterdir())) for kind in CLASSES]
    found = run_here(capfd, f"--run={folder}", "--json", *files, module=predict)
    assert [one["class_name"] for one in objects_of(found)] == list(CLASSES)


def test_pictures_are_read_as_the_data_are(
    predicted: Predict, untrained: Path, shapes: Path, tmp_path: Path
) -> None:
    data = datasets.load("folder", data_path=shapes, train_per_class=None)
    np.save(tmp_path / "test.npy", data.test.images[:5])
    several = objects_of(predicted("--json", tmp_path / "test.npy"))
    assert [one["done"] for one in several] == ["left as it is"] * 5
    probs = np.exp(trained.load(untrained).log_probs(data.test.images[:5])[0])
    np.testing.assert_allclose([one["probabilities"] for one in several], probs, atol=1e-5)
    # Among the files, these are the five images.
    found = objects_of(predicted("--json", *sorted((shapes / "circle").iterdir())))
    for expected in several:
        assert any(
            np.allclose(one["probabilities"], expected["probabilities"], atol=1e-5) for one in found
        )
    steps = {"cropped to its middle, scaled to 32x32", "scaled to 32x32"}
    assert {one["done"] for one in found} == steps


def test_large_grey_and_single_pictures(predicted: Predict, tmp_path: Path) -> None:
    Image.new("L", (1, 1), 90).save(tmp_path / "small.png")
    Image.new("L", (2000, 1000), 90).save(tmp_path / "large.jpg")
    np.save(tmp_path / "one.npy", np.full((50, 40, 3), 90, np.uint8))
    np.save(tmp_path / "floats.npy", np.full((2, 32, 32), 90 / 255))
    names = ("small.png", "large.jpg", "one.npy", "floats.npy")
    found = objects_of(predicted("--json", *(tmp_path / name for name in names)))
    assert [one["done"] for one in found] == [
        "grey in three channels, scaled to 32x32",
        "grey in three channels, cropped to its middle, scaled to 32x32",
        "cropped to its middle, scaled to 32x32",
        *["grey in three channels"] * 2,
    ]
    for one in found:
        np.testing.assert_allclose(one["probabilities"], found[0]["probabilities"], atol=1e-5)


def test_raw_needs_the_size_of_the_data(predicted: Predict, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (one,) = objects_of(predicted("--json", "--raw", tmp_path / "a.png"))
    assert one["done"] == "left as it is"
    Image.new("RGB", (400, 320)).save(tmp_path / "b.jpg")
    outcome = predicted("--raw", tmp_path / "b.jpg")
    assert outcome.code == 2
    assert outcome.stderr == (
        f"error: {tmp_path / 'b.jpg'} has 400x320 pixels: --raw needs 32x32\n"
    )


def test_the_table_has_a_line_for_each_class(predicted: Predict, shapes: Path) -> None:
    file = shapes / "circle" / "0.png"
    (one,) = objects_of(predicted("--json", file))
    lines = predicted(file).stdout.splitlines()
    best = one["class_name"]
    assert best == CLASSES[one["class"]]
    assert lines[2].startswith(f"{file}: {best}, probability {max(one['probabilities']):.3f}, ")
    assert [line.split() for line in lines[4:]] == [
        ["class", "probability", "retained"],
        *(
            [name, f"{prob:.3f}", f"{retained:.3f}"]
            for name, prob, retained in zip(
                CLASSES, one["probabilities"], one["retain_probabilities"], strict=True
            )
        ),
    ]


@pytest.mark.parametrize("length", [1, 12])
def test_of_many_classes_the_table_has_the_most_probable(length: int) -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(100))
    names = [f"{number:0{length}d}" for number in range(100)]
    best = np.argsort(-probs)[:10]
    about = {
        "class": int(best[0]),
        "class_name": names[best[0]],
        "probabilities": probs.tolist(),
        "retain_probabilities": None,
        "predictive_entropy": 1.0,
        "done": "left as it is",
    }
    rows = [line.split() for line in predict._table("a.png", about, names).splitlines()[2:]]
    table = rows if length == 1 else [list(column) for column in zip(*rows, strict=True)]
    assert table == [
        ["class", *(names[number] for number in best)],
        ["probability", *(f"{probs[number]:.3f}" for number in best)],
    ]


def test_masks_are_drawn_wherever_the_data_are(
    untrained: Path, shapes: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = f"--savedir={untrained}", f"--output={tmp_path / 'masks.png'}"
    (tmp_path / "shapes").symlink_to(shapes)
    path = f"--data_path={tmp_path / 'shapes'}"
    assert run_here(capfd, *arguments, path, module=masks).code == 0
    with Image.open(tmp_path / "masks.png") as picture:
        assert picture.width > 1000
    (tmp_path / "others").mkdir()
    for kind in CLASSES[1:]:
        (tmp_path / "others" / kind).symlink_to(shapes / kind)
    outcome = run_here(capfd, *arguments, f"--data_path={tmp_path / 'others'}", module=masks)
    assert outcome.code == 2
    assert "was trained on other data: pass its --data_path" in outcome.stderr


@pytest.mark.parametrize("module", [predict, masks])
@pytest.mark.parametrize("dataset", [None, "cifar10"])
def test_the_data_set_decides_on_the_folder_of_the_run(
    in_tmp_path: Path, capfd: pytest.CaptureFixture[str], module: Any, dataset: str | None
) -> None:
    flags = [f"--dataset={dataset}"] if dataset else []
    arguments = ["a.png"] if module is predict else []
    outcome = run_here(capfd, *flags, *arguments, module=module)
    assert outcome.code == 2
    expected = Path("results", *([dataset] if dataset else []), "dropmax")
    assert outcome.stderr.startswith(f"error: there is no run in {expected}: ")
