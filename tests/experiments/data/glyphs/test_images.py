import hashlib
import importlib.metadata
import multiprocessing
import sys

import numpy as np
import pytest
from PIL import Image, features

from experiments.cli.errors import UserError
from experiments.data import datasets, glyphs
from experiments.data.split import Split
from tests.experiments.data.glyphs.loading import DIGITS, REALLY_DRAW, drawn, load, refused, sets


def test_classes_are_in_the_order_of_code_points() -> None:
    assert list(glyphs.CHARACTERS) == sorted(glyphs.CHARACTERS)
    first = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert "".join(glyphs.CHARACTERS[:62]) == first


def test_sets(draws: list[int]) -> None:
    data = load(62)
    assert data.name == "glyphs:62"
    assert data.class_names == glyphs.CHARACTERS[:62]
    assert list(data.other_tests) == ["unseen_jitter"]
    for split, per_class in zip(sets(data), (48, 12, 24, 12), strict=True):
        assert split.images.shape == (62 * per_class, 28, 28)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32
        assert np.bincount(split.labels).tolist() == [per_class] * 62
    images = np.concatenate([split.images for split in sets(data)])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)


def test_first_twelve_of_each_class_are_one_of_each_face() -> None:
    for character in "A", "g":
        for places in range(0, 48, 12), range(48, 60, 12), range(84, 96, 12):
            faces = {
                face: [place for place, _ in glyphs._places(face, character)]
                for face in glyphs.SEEN_FACES
            }
            for first in places:
                found = [
                    face
                    for place in range(first, first + 12)
                    for face, own in faces.items()
                    if place in own
                ]
                assert found == list(glyphs.SEEN_FACES)
        unseen = [
            place for face in glyphs.UNSEEN_FACES for place, _ in glyphs._places(face, character)
        ]
        assert sorted(unseen) == list(range(60, 84))


def test_train_per_class(draws: list[int]) -> None:
    dataset = datasets.load("glyphs", num_classes=10, train_per_class=12)
    np.testing.assert_array_equal(dataset.train.images, load(10).pool.images[: 10 * 12])
    assert len(dataset.validation.labels) == 120
    with pytest.raises(UserError, match="largest --train_per_class possible is 48"):
        datasets.load("glyphs", num_classes=10, train_per_class=49)


def test_images_do_not_depend_on_how_many_classes_there_are() -> None:
    some = glyphs.CHARACTERS[:62]
    np.testing.assert_array_equal(drawn(some)[:, :10], drawn(DIGITS))
    last = glyphs.CHARACTERS[-1]
    np.testing.assert_array_equal(drawn(("7", last))[:, 0], drawn(DIGITS)[:, 7])


def digest_of_digits() -> str:
    return hashlib.sha256(REALLY_DRAW(DIGITS).tobytes()).hexdigest()


def test_another_process_draws_the_same_bits() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        other = pool.apply(digest_of_digits)
    assert other == digest_of_digits()


VERSIONS = {
    ("3.9.0", "10.4.0", "2.13.2"): "d18a2515b573417f",
    ("3.11.2", "13.0.0", "2.14.3"): "d18a2515b573417f",
}


def test_digest() -> None:
    versions = (
        importlib.metadata.version("matplotlib"),
        importlib.metadata.version("pillow"),
        str(features.version("freetype2")),
    )
    if versions not in VERSIONS:
        pytest.skip(f"no digest is known for {versions}")
    assert digest_of_digits()[:16] == VERSIONS[versions]


def test_glyphs_fill_their_images_and_are_not_cut_off() -> None:
    images = drawn(glyphs.CHARACTERS[:62]).reshape(-1, 28, 28)
    assert images.max(axis=(1, 2)).min() > 200
    assert images[:, [0, -1], :].max() == 0
    assert images[:, :, [0, -1]].max() == 0
    capital = drawn(("H",))[:, 0] > 64
    heights = capital.any(axis=2).sum(axis=1)
    assert 15 <= heights.min() <= heights.max() <= 25
    assert 17 < heights.mean() < 21


def test_wide_and_high_letters_are_not_cut_off() -> None:
    images = drawn(("W", "Ǽ", "Ю", "Љ", "ʨ", "ĳ", "ΐ", "Ģ"))
    ring = np.concatenate([images[..., [0, -1], :], images[..., [0, -1]].swapaxes(2, 3)])
    assert ring.max() == 0


@pytest.mark.parametrize("chances", [np.zeros(5), np.full(5, 0.5), np.ones(5)])
@pytest.mark.parametrize("size", [(3, 3), (9, 300), (300, 9), (300, 300)])
def test_nothing_of_a_glyph_is_lost(size: tuple[int, int], chances: np.ndarray) -> None:
    """Ink inside the margin stays inside the image, which keeps a border of its own."""
    image = Image.new("L", size)
    image.paste(255, (1, 1, size[0] - 1, size[1] - 1))
    found = glyphs._jittered(image, chances)
    assert found.any()
    assert not found[[0, -1]].any()
    assert not found[:, [0, -1]].any()


def test_digits_can_be_learnt(draws: list[int]) -> None:
    """The nearest of the training images, of ten digits, in new jitter and in new faces."""
    data = load(10)
    train = data.pool.images.reshape(len(data.pool.labels), -1) / 255.0

    def error(split: Split) -> float:
        images = split.images.reshape(len(split.labels), -1) / 255.0
        distances = (train**2).sum(1) - 2 * images @ train.T
        return float(np.mean(data.pool.labels[distances.argmin(1)] != split.labels))

    assert error(data.other_tests["unseen_jitter"]) < 0.15
    assert error(data.test) < 0.35


@pytest.mark.parametrize("number", [-1, 0, 1, 562])
def test_wrong_number_of_classes(number: int) -> None:
    assert refused(number) == f"--num_classes must be from 2 to 561, not {number}"


def test_all_classes_by_default(draws: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    blank = np.zeros((96, 561, 28, 28), np.uint8)
    monkeypatch.setattr(glyphs, "draw", lambda characters: blank[:, : len(characters)])
    data = load(None)
    assert data.name == "glyphs:561"
    assert "drawn alike" in data.note
    assert "\n" not in data.note
    assert len(data.test.labels) == 24 * 561


def test_bar_only_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    glyphs.draw(("A", "B"))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    # What is done within a second shows none either.
    glyphs.draw(("A", "B"))
    assert capsys.readouterr().err.strip() == ""
