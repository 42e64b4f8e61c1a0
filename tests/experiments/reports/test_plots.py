import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.reports import drawing, plots
from experiments.reports.drawing import Figure


def history(terms: dict[str, list[float]], epochs: int = 30) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "train_loss": [2.0 / epoch, 4.0 / epoch],
            **{name: [value / epoch for value in values] for name, values in terms.items()},
            "train_error_percent": [50 / epoch, 70 / epoch],
            "validation_error_percent": [60 / epoch, 80 / epoch],
            "seconds": 0.1,
        }
        for epoch in range(1, epochs + 1)
    ]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that would have been saved."""
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    return figures


def curves(axes: Any) -> dict[str, np.ndarray]:
    assert list(axes.lines[0].get_xdata()) == list(range(1, len(axes.lines[0].get_xdata()) + 1))
    return {line.get_label(): np.asarray(line.get_ydata()) for line in axes.lines}


def test_learning_curves_show_means_and_every_term(drawn: list[Figure]) -> None:
    entries = history({"cross_entropy": [1.0, 3.0], "kl_divergence": [1.0, 1.0]})
    plots.learning_curves(entries, "a title", Path("none.png"))
    (figure,) = drawn
    assert figure.get_suptitle() == "a title"
    losses, errors = figure.axes
    epochs = np.arange(1, 31)
    shown = curves(losses)
    assert set(shown) == {"loss", "cross entropy", "kl divergence"}
    np.testing.assert_allclose(shown["loss"], 3 / epochs)
    np.testing.assert_allclose(shown["cross entropy"], 2 / epochs)
    shown = curves(errors)
    np.testing.assert_allclose(shown["training"], 60 / epochs)
    np.testing.assert_allclose(shown["validation"], 70 / epochs)
    # The band of the seeds.
    band = losses.collections[0].get_paths()[0].get_extents()
    np.testing.assert_allclose([band.y0, band.y1], [2 / 30, 4])


def test_a_single_term_is_the_loss_itself(drawn: list[Figure]) -> None:
    plots.learning_curves(history({"cross_entropy": [2.0, 4.0]}), "", Path("none.png"))
    assert set(curves(drawn[0].axes[0])) == {"loss"}


def test_the_first_epochs_do_not_flatten_the_errors(drawn: list[Figure]) -> None:
    plots.learning_curves(history({}, 100), "", Path("none.png"))
    low, high = drawn[0].axes[1].get_ylim()
    assert low == 0
    # The axis fits the eleventh epoch's error, 80 / 11.
    assert 80 / 11 < high < 15


def test_numbers_of_a_single_seed_are_curves_too(tmp_path: Path) -> None:
    entries = [
        {name: value[0] if isinstance(value, list) else value for name, value in entry.items()}
        for entry in history({}, 1)
    ]
    plots.learning_curves(entries, "", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_errors_of_zero_have_a_scale(drawn: list[Figure]) -> None:
    entries = [{**entry, "validation_error_percent": [0.0, 0.0]} for entry in history({}, 2)]
    plots.learning_curves(entries, "", Path("none.png"))
    assert drawn[0].axes[1].get_ylim() == (0, 1)


def test_legends_cover_no_curve(drawn: list[Figure]) -> None:
    entries = history({"cross_entropy": [1.0, 3.0], "kl_divergence": [1.0, 1.0]})
    plots.learning_curves(entries, "", Path("none.png"))
    drawn[0].draw_without_rendering()
    for axes in drawn[0].axes:
        legend = axes.get_legend()
        assert legend is not None
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())
        assert legend.get_window_extent().x1 < drawn[0].bbox.x1
        assert legend.get_window_extent().y0 > drawn[0].bbox.y0


def test_curves_of_some_epochs_only_are_drawn_there(drawn: list[Figure]) -> None:
    entries = history({})
    entries[2]["test_nll"] = entries[9]["test_nll"] = [1.0, 2.0]
    axes = Figure().subplots()
    plots.draw_curve(axes, entries, "test_nll", color="black")
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [3, 10]
    # What the test says is no term of the loss.
    entries[0]["test_nll"] = [1.0, 2.0]
    plots.learning_curves(entries, "", Path("none.png"))
    assert set(curves(drawn[0].axes[0])) == {"loss"}


def test_epochs_that_are_not_validated_leave_no_gap(drawn: list[Figure]) -> None:
    entries = history({}, 100)
    for number in (1, 10, 11, 12, 50):
        del entries[number]["validation_error_percent"]
    plots.learning_curves(entries, "", Path("none.png"))
    axes = drawn[0].axes[1]
    line = axes.lines[1]
    epochs = [entry["epoch"] for entry in entries if "validation_error_percent" in entry]
    assert np.asarray(line.get_xdata()).tolist() == epochs
    # The axis fits the error of the first validated epoch after a tenth of them, 80 / 14.
    assert 80 / 14 < axes.get_ylim()[1] < 10


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_figure_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    files = [tmp_path / folder / f"a.{kind}" for folder in ("one", "other")]
    for file in files:
        file.parent.mkdir()
        figure = Figure(layout="constrained")
        figure.subplots().imshow(np.eye(3))
        drawing.save(figure, file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_clips_are_numbered_in_their_order(tmp_path: Path) -> None:
    figure = Figure()
    for axes in figure.subplots(1, 3):
        axes.plot([0, 1])
    drawing.save(figure, tmp_path / "a.svg")
    svg = (tmp_path / "a.svg").read_text()
    used = re.findall(r"url\(#(clip\d)\)", svg)
    assert list(dict.fromkeys(used)) == ["clip1", "clip2", "clip3"]
    assert sorted(re.findall(r'<clipPath id="(\w+)"', svg)) == ["clip1", "clip2", "clip3"]


def test_a_figure_that_cannot_be_drawn_leaves_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")

    def savefig(figure: Figure, file: Path, **_: object) -> None:
        file.write_bytes(b"half")
        raise RuntimeError

    monkeypatch.setattr(Figure, "savefig", savefig)
    with pytest.raises(RuntimeError):
        drawing.save(Figure(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
