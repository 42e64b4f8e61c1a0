"""Random changes of training images, each by its example's key.

What becomes of an image depends on its key alone, so not on how examples are spread over devices.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

# Distinct from the example's keys of dropout and masks, which are its key's first two children.
_STREAM = 2


def augmented(name: str, keys: Array, images: Array) -> Array:
    """Changes a batch of images.

    Args:
        name: `none`; `crop`, a random crop of the image with an eighth of its size of zeros around
            it; or `crop_flip`, which also mirrors half of the images.
        keys: A key for each example, `[B]`.
        images: `[B, H, W]` or `[B, H, W, C]`.

    Returns:
        Images of the same shape and type.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> augmented("crop_flip", keys, jnp.ones((2, 32, 32, 3), jnp.uint8)).shape
        (2, 32, 32, 3)
    """
    if name == "none":
        return images

    def change(key: Array, image: Array) -> Array:
        return flip(key, crop(key, image)) if name == "crop_flip" else crop(key, image)

    own_keys = jax.vmap(lambda key: jax.random.fold_in(key, _STREAM))(keys)
    return jax.vmap(change)(own_keys, images)


def crop(key: Array, image: Array) -> Array:
    """A random crop of an image `[H, W, ...]` with an eighth of its size of zeros around it."""
    margins = [size // 8 for size in image.shape[:2]]
    around = [(margin, margin) for margin in margins] + [(0, 0)] * (image.ndim - 2)
    limits = jnp.array([2 * margin + 1 for margin in margins])
    corner = jax.random.randint(jax.random.fold_in(key, 0), (2,), 0, limits)
    starts = [*corner, *[jnp.zeros_like(corner[0])] * (image.ndim - 2)]
    return lax.dynamic_slice(jnp.pad(image, around), starts, image.shape)


def flip(key: Array, image: Array) -> Array:
    """Mirrors an image `[H, W, ...]` with probability 1/2."""
    mirrored = jax.random.bernoulli(jax.random.fold_in(key, 1))
    return jnp.where(mirrored, image[:, ::-1], image)
