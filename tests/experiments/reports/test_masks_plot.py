"""Which classes the picture of masks shows, in which order, and that it stays readable."""

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.data.split import Split
from experiments.reports import plots
from experiments.reports.class_matrices import (
    MOST_CLASSES,
    chosen_classes,
    class_means,
    confusion_counts,
)
from experiments.reports.drawing import save
from experiments.reports.tables import shortened


def softmax(scores: np.ndarray) -> np.ndarray:
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    total: np.ndarray = shares / shares.sum(-1, keepdims=True)
    return total


def made_up(count: int, per_class: int = 4, colour: bool = False) -> Any:
    """Images and predictions; class 2 k + 1 looks like class 2 k."""
    rng = np.random.default_rng(count)
    centres = rng.normal(size=(count, 6))
    centres[1::2] = centres[: count - count % 2 : 2] + 0.3 * rng.normal(size=(count // 2, 6))
    labels = np.repeat(np.arange(count, dtype=np.int32), per_class)
    points = centres[labels] + 0.3 * rng.normal(size=(len(labels), 6))
    scores = -np.square(points[:, None] - centres).sum(-1)
    alone = softmax(2 * scores + rng.normal(size=scores.shape))
    retained = 1 / (1 + np.exp(-3 * scores - 6))
    masked = alone * retained / (alone * retained).sum(-1, keepdims=True)
    shape = (len(labels), 16, 16, 3) if colour else (len(labels), 16, 16)
    images = rng.integers(0, 256, shape).astype(np.uint8)
    return Split(images, labels), retained, alone, masked


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, _: figures.append(figure))
    return figures


def test_means_and_counts() -> None:
    labels, predicted = np.array([0, 0, 2, 2, 2]), np.array([0, 1, 2, 2, 0])
    np.testing.assert_array_equal(
        confusion_counts(labels, predicted, 3), [[1, 1, 0], [0, 0, 0], [1, 0, 2]]
    )
    values = np.random.default_rng(0).random((5, 3))
    means = class_means(labels, values)
    np.testing.assert_allclose(means[0], values[:2].mean(0))
    np.testing.assert_allclose(means[2], values[2:].mean(0))
    assert np.isnan(means[1]).all()


def test_few_classes_keep_their_order() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (10, 10))
    assert chosen_classes(counts, np.zeros((10, 10))).tolist() == list(range(10))


def test_those_that_are_confused_most_are_chosen_and_stand_side_by_side() -> None:
    rng = np.random.default_rng(0)
    counts = 100 * np.eye(60, dtype=int)
    partners = rng.permutation(60).reshape(-1, 2)
    for number, (one, other) in enumerate(partners):
        counts[one, other] = 30 - number
    found = chosen_classes(counts, np.eye(60)).tolist()
    assert sorted(found) == sorted(partners[:12].ravel().tolist())
    for one, other in partners[:12]:
        assert abs(found.index(one) - found.index(other)) == 1


def test_without_confusions_those_that_retain_each_other_are_chosen() -> None:
    average = np.full((60, 60), 0.1) + 0.9 * np.eye(60)
    average[7, 50] = average[50, 7] = 0.5
    found = chosen_classes(np.eye(60, dtype=int), average).tolist()
    assert len(found) == MOST_CLASSES
    assert abs(found.index(7) - found.index(50)) == 1


@pytest.mark.parametrize("count", [2, 11, 100, 561])
def test_the_picture_is_of_the_model(drawn: list[Figure], count: int) -> None:
    test, retained, alone, masked = made_up(count)
    names = [f"class {number}" for number in range(count)]
    plots.masks(test, retained, alone, masked, Path("none.png"), names, False)
    retains, confuses = drawn[0].axes[:2]
    labels = [label.get_text() for label in retains.get_yticklabels()]
    assert len(labels) == min(count, MOST_CLASSES)
    classes = [names.index(label) for label in labels]
    for axes in (retains, confuses):
        assert [label.get_text() for label in axes.get_xticklabels()] == labels
    own = np.eye(len(classes), dtype=bool)
    matrix: Any = retains.get_images()[0].get_array()
    means = class_means(test.labels, retained)[np.ix_(classes, classes)]
    np.testing.assert_allclose(matrix[~own], means[~own])
    # The colours are for what lies off the diagonal, which is drawn apart.
    assert retains.get_images()[0].get_clim() == (means[~own].min(), means[~own].max())
    assert matrix.mask[own].all()
    written = [text.get_text() for text in retains.texts]
    few = [f"{value:.2f}".removeprefix("0") for value in means[own]]
    assert written == (few if count <= 10 else [])
    predicted = masked.argmax(-1)
    percent: Any = confuses.get_images()[0].get_array()
    for row, true in enumerate(classes):
        for column, other in enumerate(classes):
            expected = 100 * (predicted[test.labels == true] == other).mean()
            found = np.ma.filled(percent, 0)[row, column]
            assert found == (0 if true == other else pytest.approx(expected))


def test_bars_are_of_the_most_probable_classes(drawn: list[Figure]) -> None:
    test, retained, alone, masked = made_up(100)
    plots.masks(test, retained, alone, masked, Path("none.png"))
    shown = plots.saved_by_mask(test.labels, alone, masked)[:4]
    panels = [axes for axes in drawn[0].axes if axes.get_ylim() == (0, 1.05)]
    assert len(panels) == len(shown) > 0
    for axes, index in zip(panels, shown, strict=True):
        classes = [int(label.get_text()) for label in axes.get_xticklabels()]
        assert len(classes) == 10
        assert classes[0] == test.labels[index]
        assert alone[index].argmax() in classes
        heights = [bar.get_height() for bar in axes.containers[2]]
        np.testing.assert_allclose(heights, masked[index][classes])


def test_colour_images_are_drawn_in_colour(drawn: list[Figure]) -> None:
    test, retained, alone, masked = made_up(20, 20, colour=True)
    plots.masks(test, retained, alone, masked, Path("none.png"))
    index = plots.saved_by_mask(test.labels, alone, masked)[0]
    pictures = [axes for axes in drawn[0].axes if axes.get_xlim() == (-0.5, 15.5)]
    np.testing.assert_array_equal(pictures[0].get_images()[0].get_array(), test.images[index])


NAMES = {
    "digits": [str(number) for number in range(10)],
    "long": [f"a_very_long_name_of_class_{number}" for number in range(30)],
    "mathematics": [f"$x_{{{number}$ \\frac" for number in range(30)],
    "other scripts": [chr(0x4E00 + number) * 3 for number in range(30)],
}


@pytest.mark.parametrize("kind", list(NAMES))
@pytest.mark.filterwarnings("error")
def test_names_do_not_overlap(tmp_path: Path, monkeypatch: Any, kind: str) -> None:
    figures: list[Figure] = []

    def keep(figure: Figure, path: Path) -> None:
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "save", keep)
    names = NAMES[kind]
    test, retained, alone, masked = made_up(len(names), 20)
    plots.masks(test, retained, alone, masked, tmp_path / "masks.png", names)
    assert (tmp_path / "masks.png").stat().st_size > 10_000
    for axes in figures[0].axes[:2]:
        for labels, side in ((axes.get_xticklabels(), 0), (axes.get_yticklabels(), 1)):
            with warnings.catch_warnings(action="ignore"):
                boxes = [label.get_window_extent() for label in labels]
            spans = sorted((box.min[side], box.max[side]) for box in boxes)
            assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_a_class_without_test_images_is_left_blank(drawn: list[Figure]) -> None:
    test, retained, alone, masked = made_up(12)
    keep = test.labels != 5
    split = Split(test.images[keep], test.labels[keep])
    plots.masks(split, retained[keep], alone[keep], masked[keep], Path("none.png"))
    row = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()].index("5")
    assert np.isnan(np.asarray(drawn[0].axes[0].get_images()[0].get_array())[row]).all()


@pytest.mark.parametrize(
    "name", ["short", "fourteen_chars", "rex_begonia_leaf_variety_1", "x" * 99]
)
def test_short_names_keep_their_ends(name: str) -> None:
    found = shortened(name)
    assert len(found) <= 14
    start, _, end = found.partition("…")
    assert name.startswith(start)
    assert name.endswith(end)


def test_equal_values_and_no_confusions_at_all_can_be_drawn(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    labels = np.arange(10, dtype=np.int32)
    even, sure = np.full((10, 10), 0.5), np.eye(10)
    images = np.zeros((10, 16, 16), np.uint8)
    plots.masks(Split(images, labels), even, sure, sure, Path("none.png"))
    save(drawn[0], tmp_path / "masks.png")
    assert drawn[0].axes[1].get_images()[0].get_array().count() == 0  # type: ignore[union-attr]
