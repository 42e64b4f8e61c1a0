"""Images made from others by definition: harder ones to train on, unfamiliar ones to detect.

Every image has a random key of its own, by its place in its set: what it becomes depends on that
key alone, not on how many images there are.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.ndimage import map_coordinates

from experiments.data.datasets import Dataset
from experiments.data.split import Split

_SEED = 2007
# Images are made in parts of one shape, so that all go through one program.
_PART = 1000

ImageMap = Callable[[Array, Array], Array]
"""A function of one key and one image, uint8 `[H, W]` or `[H, W, 3]`, to an image like it."""


def add_random_background(key: Array, image: Array) -> Array:
    """Lays a digit over noise: the maximum of it and pixels drawn uniformly from 0 to 255.

    References:
        Larochelle et al., An Empirical Evaluation of Deep Architectures on Problems with Many
        Factors of Variation, ICML 2007 (mnist-back-rand).
    """
    return jnp.maximum(image, jax.random.bits(key, image.shape, jnp.uint8))


def rotate(image: Array, angle: Array | float) -> Array:
    """Turns an image counterclockwise about its centre, by bilinear interpolation.

    Args:
        image: uint8 `[H, W]` or `[H, W, 3]`.
        angle: In radians.

    Returns:
        An image like it; 0 where the image does not reach.
    """
    if image.ndim == 3:
        return jax.vmap(rotate, (-1, None), -1)(image, angle)
    centre = (jnp.array(image.shape, jnp.float32) - 1) / 2
    down, right = jnp.indices(image.shape) - centre[:, None, None]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rows = centre[0] + cos * down + sin * right
    columns = centre[1] - sin * down + cos * right
    turned = map_coordinates(image.astype(jnp.float32), [rows, columns], order=1, cval=0.0)
    return jnp.clip(jnp.round(turned), 0, 255).astype(jnp.uint8)


def rotate_randomly(key: Array, image: Array) -> Array:
    """Turns an image by an angle drawn uniformly from 0 to 2π."""
    return rotate(image, jax.random.uniform(key, maxval=2 * np.pi))


def replace_half_by_noise(key: Array, image: Array) -> Array:
    """Replaces each pixel, with probability 1/2, by one drawn uniformly from 0 to 255."""
    which, what = jax.random.split(key)
    noise = jax.random.bits(what, image.shape, jnp.uint8)
    return jnp.where(jax.random.bernoulli(which, 0.5, image.shape), noise, image)


def scramble(key: Array, image: Array) -> Array:
    """Puts the pixels of an image in a random order."""
    pixels = image.reshape(image.shape[0] * image.shape[1], *image.shape[2:])
    return jax.random.permutation(key, pixels).reshape(image.shape)


def turn(image: Array) -> Array:
    """Turns an image by 90°, or by 180° if it is not square."""
    return jnp.rot90(image, 1 if image.shape[0] == image.shape[1] else 2)


def _background_random(key: Array, image: Array) -> Array:
    return add_random_background(jax.random.fold_in(key, 0), image)


def _background_rotation(key: Array, image: Array) -> Array:
    # The digit turns, not the noise: interpolation would smooth it, and corners would be bare.
    return _background_random(key, rotate_randomly(jax.random.fold_in(key, 1), image))


VARIANTS: Mapping[str, ImageMap] = {
    "clean": lambda key, image: image,
    "background_random": _background_random,
    "background_rotation": _background_rotation,
}
"""What to train and test on, by the names that the paper's calibration table has."""

UNFAMILIAR: Mapping[str, ImageMap] = {
    "rotated": lambda key, image: turn(image),
    "noisy": replace_half_by_noise,
    "inverted": lambda key, image: 255 - image,
    "scrambled": scramble,
}
"""What turns test images into images that a model was not trained on."""


def make(dataset: Dataset, variant: str) -> Dataset:
    """The variant of a dataset's images; a key of its own for each of the three sets.

    Args:
        dataset: Any.
        variant: A name of `VARIANTS`.
    """
    train, validation, test = (
        _changed(split, VARIANTS[variant], _key(place))
        for place, split in enumerate((dataset.train, dataset.validation, dataset.test))
    )
    return dataset._replace(train=train, validation=validation, test=test)


def unfamiliar(test: Split, kind: str) -> Split:
    """Test images made unfamiliar; `kind` is a name of `UNFAMILIAR`."""
    return _changed(test, UNFAMILIAR[kind], _key(3))


def change(images: np.ndarray, image_map: ImageMap, key: Array) -> np.ndarray:
    """Changes images, each with the key that its place gives.

    Args:
        images: uint8 `[N, H, W]` or `[N, H, W, 3]`.
        image_map: What to do with each.
        key: Of the whole set.

    Returns:
        Images of the same shape.
    """
    missing = -len(images) % _PART
    padded = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])
    parts = [
        np.asarray(_change_part(image_map, key, first, padded[first : first + _PART]))
        for first in range(0, len(padded), _PART)
    ]
    return np.concatenate(parts)[: len(images)] if parts else images


@functools.partial(jax.jit, static_argnums=0)
def _change_part(image_map: ImageMap, key: Array, first: Array, images: Array) -> Array:
    places = first + jnp.arange(len(images))
    keys = jax.vmap(lambda place: jax.random.fold_in(key, place))(places)
    return jax.vmap(image_map)(keys, images)


def _changed(split: Split, image_map: ImageMap, key: Array) -> Split:
    return split._replace(images=change(split.images, image_map, key))


def _key(stream: int) -> Array:
    # Named, for JAX's default can be changed.
    return jax.random.fold_in(jax.random.key(_SEED, impl="threefry2x32"), stream)
