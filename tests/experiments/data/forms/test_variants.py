from collections.abc import Callable, Iterator

import jax
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from experiments.calibration import __main__ as calibration
from experiments.data import mnist_5k
from experiments.data.datasets import Dataset
from experiments.data.forms import variants
from experiments.data.forms.variants import UNFAMILIAR, VARIANTS
from experiments.data.split import Split

KEY = jax.random.key(0)
IMAGES = mnist_5k.read().images[::250]
NOISE = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)
EVERY_MAP = [*VARIANTS.values(), *UNFAMILIAR.values()]
EVERY_NAME = [*VARIANTS, *UNFAMILIAR]


def changed(image_map: variants.ImageMap, images: np.ndarray = IMAGES) -> np.ndarray:
    return variants.change(images, image_map, KEY)


class TestRotation:
    @pytest.mark.parametrize("quarters", [0, 1, 2, 3, 4, -1])
    def test_by_quarters_is_numpys(self, quarters: int) -> None:
        turned = variants.rotate(jax.numpy.asarray(NOISE), quarters * np.pi / 2)
        np.testing.assert_array_equal(turned, np.rot90(NOISE, quarters))

    @pytest.mark.parametrize("angle", [0.3, 1.0, 2.5, 4.0, 6.2])
    def test_is_scipys(self, angle: float) -> None:
        centre = np.array([13.5, 13.5])
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = np.array([[cos, sin], [-sin, cos]])
        expected = scipy.ndimage.affine_transform(
            NOISE.astype(float), matrix, centre - matrix @ centre, order=1, mode="grid-constant"
        )
        turned = np.asarray(variants.rotate(jax.numpy.asarray(NOISE), angle), float)
        np.testing.assert_allclose(turned, expected, atol=0.501)

    def test_there_and_back_keeps_what_stays_inside(self) -> None:
        blob = np.zeros((28, 28), np.uint8)
        blob[10:18, 9:16] = 200
        blob = np.asarray(scipy.ndimage.gaussian_filter(blob, 2.0))
        there = variants.rotate(jax.numpy.asarray(blob), 0.7)
        back = np.asarray(variants.rotate(there, -0.7), int)
        assert np.abs(back - blob).max() < 8

    def test_angles_are_uniform(self) -> None:
        # The new place of a dot at the right edge shows how far an image was rotated.
        dot = np.zeros((28, 28), np.uint8)
        dot[13:15, 22:24] = 255
        turned = changed(variants.rotate_randomly, np.broadcast_to(dot, (2000, 28, 28)))
        down, right = np.indices((28, 28)) - 13.5
        weights = turned / turned.sum((1, 2), keepdims=True)
        angles = np.arctan2(-(weights * down).sum((1, 2)), (weights * right).sum((1, 2)))
        uniform = angles % (2 * np.pi) / (2 * np.pi)
        assert scipy.stats.kstest(uniform, "uniform").pvalue > 0.01


class TestBackground:
    def test_is_the_maximum_of_the_digit_and_noise(self) -> None:
        noise = changed(VARIANTS["background_random"], np.zeros_like(IMAGES))
        np.testing.assert_array_equal(
            changed(VARIANTS["background_random"]), np.maximum(IMAGES, noise)
        )

    def test_is_uniform(self) -> None:
        noise = changed(VARIANTS["background_random"], np.zeros((1000, 28, 28), np.uint8))
        counts = np.bincount(noise.ravel(), minlength=256)
        assert scipy.stats.chisquare(counts).pvalue > 0.01
        neighbours = noise[..., :-1].ravel(), noise[..., 1:].ravel()
        assert abs(np.corrcoef(*neighbours)[0, 1]) < 0.01

    def test_does_not_turn_with_the_digit(self) -> None:
        blank = np.zeros_like(IMAGES)
        np.testing.assert_array_equal(
            changed(VARIANTS["background_rotation"], blank),
            changed(VARIANTS["background_random"], blank),
        )

    def test_of_a_digit_that_is_turned(self) -> None:
        turned = changed(VARIANTS["background_rotation"])
        noise = changed(VARIANTS["background_random"], np.zeros_like(IMAGES))
        assert np.all(turned >= noise)
        digit = np.where(turned > noise, turned, 0)
        assert not np.array_equal(digit, np.where(noise < IMAGES, IMAGES, 0))


class TestUnfamiliar:
    def test_rotated_and_inverted(self) -> None:
        np.testing.assert_array_equal(changed(UNFAMILIAR["rotated"]), np.rot90(IMAGES, axes=(1, 2)))
        np.testing.assert_array_equal(changed(UNFAMILIAR["inverted"]), 255 - IMAGES)

    def test_scrambled_keeps_the_pixels_and_loses_their_places(self) -> None:
        scrambled = changed(UNFAMILIAR["scrambled"], np.stack([NOISE, NOISE]))
        np.testing.assert_array_equal(
            np.sort(scrambled.reshape(2, -1)), np.sort(np.stack([NOISE, NOISE]).reshape(2, -1))
        )
        assert np.mean(scrambled[0] == scrambled[1]) < 0.05
        assert np.mean(scrambled[0] == NOISE) < 0.05

    def test_noisy_keeps_half_of_the_pixels(self) -> None:
        # Noise hits the original value once in 256 values.
        noisy = changed(UNFAMILIAR["noisy"], np.full((500, 28, 28), 7, np.uint8))
        assert abs(np.mean(noisy == 7) - (0.5 + 0.5 / 256)) < 0.005


class TestEveryImageHasAKeyOfItsOwn:
    @pytest.mark.parametrize("image_map", EVERY_MAP, ids=EVERY_NAME)
    def test_the_same_however_many_there_are(self, image_map: variants.ImageMap) -> None:
        many = np.concatenate([IMAGES] * 60)
        np.testing.assert_array_equal(changed(image_map, many)[: len(IMAGES)], changed(image_map))
        np.testing.assert_array_equal(changed(image_map, IMAGES[:1]), changed(image_map)[:1])

    @pytest.mark.parametrize("image_map", EVERY_MAP, ids=EVERY_NAME)
    def test_as_by_the_definition_of_one(self, image_map: variants.ImageMap) -> None:
        one = image_map(jax.random.fold_in(KEY, 3), jax.numpy.asarray(IMAGES[3]))
        difference = np.asarray(one, int) - changed(image_map)[3]
        # Interpolation may round differently in another program.
        assert np.abs(difference).max() <= 1

    @pytest.mark.parametrize("name", ["background_random", "background_rotation"])
    def test_not_the_same_for_two_images(self, name: str) -> None:
        twice = changed(VARIANTS[name], np.stack([IMAGES[0], IMAGES[0]]))
        assert np.mean(twice[0] == twice[1]) < 0.6

    @pytest.mark.parametrize("image_map", EVERY_MAP, ids=EVERY_NAME)
    @pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001])
    def test_any_number_of_images(self, image_map: variants.ImageMap, count: int) -> None:
        images = changed(image_map, np.zeros((count, 28, 28), np.uint8))
        assert images.shape == (count, 28, 28)
        assert images.dtype == np.uint8


class TestDatasets:
    def test_clean_is_the_dataset(self, small_data: Dataset) -> None:
        clean = variants.make(small_data, "clean")
        assert clean.fingerprint() == small_data.fingerprint()

    @pytest.mark.parametrize("name", ["background_random", "background_rotation"])
    def test_all_else_stays(self, small_data: Dataset, name: str) -> None:
        made = variants.make(small_data, name)
        assert (made.name, made.note) == (small_data.name, small_data.note)
        for split, before in zip(made[1:4], small_data[1:4], strict=True):
            np.testing.assert_array_equal(split.labels, before.labels)
            assert split.images.shape == before.images.shape
            assert split.images.dtype == np.uint8
        assert made.fingerprint() != small_data.fingerprint()

    def test_twice_the_same(self, small_data: Dataset) -> None:
        for name in VARIANTS:
            fingerprints = {variants.make(small_data, name).fingerprint() for _ in range(2)}
            assert len(fingerprints) == 1

    def test_each_set_has_its_own_noise(self) -> None:
        blank = Split(np.zeros((5, 28, 28), np.uint8), np.zeros(5, np.int32))
        made = variants.make(Dataset("mnist", blank, blank, blank, ""), "background_random")
        for one, other in ((made.train, made.test), (made.train, made.validation)):
            assert np.mean(one.images == other.images) < 0.05

    def test_not_what_jax_is_configured_to_draw(
        self, small_data: Dataset, default_prng: Callable[[str], None]
    ) -> None:
        before = variants.make(small_data, "background_random").fingerprint()
        default_prng("rbg")
        assert variants.make(small_data, "background_random").fingerprint() == before

    def test_the_command_knows_them_all(self) -> None:
        assert tuple(VARIANTS) == calibration.VARIANTS

    def test_unfamiliar_keeps_labels(self, small_data: Dataset) -> None:
        for kind in UNFAMILIAR:
            split = variants.unfamiliar(small_data.test, kind)
            np.testing.assert_array_equal(split.labels, small_data.test.labels)
            assert not np.array_equal(split.images, small_data.test.images)


@pytest.fixture
def default_prng() -> Iterator[Callable[[str], None]]:
    before = jax.config.values["jax_default_prng_impl"]
    yield lambda name: jax.config.update("jax_default_prng_impl", name)
    jax.config.update("jax_default_prng_impl", before)
