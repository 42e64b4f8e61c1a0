"""A set of labelled images, and the rule that cuts it into training and validation sets."""

from typing import NamedTuple

import numpy as np

from experiments.cli.errors import UserError

NUM_CLASSES = 10
VALIDATION_PER_CLASS = 100


class Split(NamedTuple):
    """Images and labels, on the host.

    Attributes:
        images: uint8 `[N, 28, 28]`, 0 is background and 255 is ink.
        labels: int32 `[N]`, the digits 0 to 9.
    """

    images: np.ndarray
    labels: np.ndarray


def train_validation(pool: Split, train_per_class: int | None) -> tuple[Split, Split]:
    """Cuts a pool into training and validation sets, class by class and in file order.

    The first `train_per_class` images of each class are the training set and the next 100 of
    each the validation set (the paper's "MNIST-1K" is 100 and 100). With None the last 100 of
    each class are the validation set and all others the training set. Both keep the pool's order.

    Args:
        pool: The images to take from.
        train_per_class: How many training images a class gets, at least 1; None for all.

    Returns:
        The training set and the validation set; they share no image.

    Raises:
        UserError: A class has too few images.

    Example:
        >>> labels = np.repeat(np.arange(10, dtype=np.int32), 150)
        >>> pool = Split(np.zeros((1500, 28, 28), np.uint8), labels)
        >>> train, validation = train_validation(pool, 20)
        >>> len(train.labels), len(validation.labels)
        (200, 1000)
    """
    _check_enough(pool.labels, 1 if train_per_class is None else train_per_class)
    rank, count = _rank_within_class(pool.labels)
    if train_per_class is None:
        is_train = rank < count - VALIDATION_PER_CLASS
        is_validation = ~is_train
    else:
        end = train_per_class + VALIDATION_PER_CLASS
        is_train = rank < train_per_class
        is_validation = ~is_train & (rank < end)
    return _where(pool, is_train), _where(pool, is_validation)


def split_off_last(pool: Split, per_class: int) -> tuple[Split, Split]:
    """Cuts the last `per_class` images of each class off; returns the rest and those."""
    rank, count = _rank_within_class(pool.labels)
    is_last = rank >= count - per_class
    return _where(pool, ~is_last), _where(pool, is_last)


def _check_enough(labels: np.ndarray, train_per_class: int) -> None:
    counts = np.bincount(labels, minlength=NUM_CLASSES)
    digit = int(counts.argmin())
    needed = train_per_class + VALIDATION_PER_CLASS
    if counts[digit] >= needed:
        return
    largest = int(counts[digit]) - VALIDATION_PER_CLASS
    advice = (
        f"the largest --train_per_class possible is {largest}"
        if largest > 0
        else "no --train_per_class is possible with these data"
    )
    raise UserError(
        f"class {digit} has {counts[digit]} images for training and validation, but {needed} are "
        f"needed ({train_per_class} to train on and {VALIDATION_PER_CLASS} to validate on): "
        f"{advice}"
    )


def _rank_within_class(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each image: how many of its class stand before it, and how many its class has."""
    rank = np.empty(len(labels), np.int64)
    count = np.empty(len(labels), np.int64)
    for digit in np.unique(labels):
        (places,) = np.nonzero(labels == digit)
        rank[places] = np.arange(len(places))
        count[places] = len(places)
    return rank, count


def _where(split: Split, keep: np.ndarray) -> Split:
    return Split(split.images[keep], split.labels[keep])
