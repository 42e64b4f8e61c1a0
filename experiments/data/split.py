"""A set of labelled images, and the rule that cuts it into training and validation sets."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.cli.errors import UserError
from experiments.data.catalogue import DIGITS

VALIDATION_PER_CLASS = 100


class Split(NamedTuple):
    """Images, or texts in their place, and labels, on the host.

    Attributes:
        images: uint8, grey `[N, H, W]` or colour `[N, H, W, 3]`; texts are rows of bytes `[N, L]`.
        labels: int32 `[N]`, classes from 0 on.
    """

    images: np.ndarray
    labels: np.ndarray


def train_validation(
    pool: Split, train_per_class: int | None, class_names: Sequence[str] = DIGITS
) -> tuple[Split, Split]:
    """Cuts a pool into training and validation sets, class by class and in file order.

    The first `train_per_class` images of each class are the training set and the next 100 of
    each the validation set (the paper's "MNIST-1K" is 100 and 100). With None the last 100 of
    each class are the validation set and all others the training set. Both keep the pool's order.

    Args:
        pool: The images to take from.
        train_per_class: How many training images a class gets, at least 1; None for all.
        class_names: Of the classes, in the order of the labels.

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
    _check_enough(pool.labels, 1 if train_per_class is None else train_per_class, class_names)
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


def cut_fifths(pool: Split, count: int) -> list[Split]:
    """Cuts a pool into its first fifths of each class and the rest.

    Args:
        pool: The images to take from, more than `count` of each class.
        count: How many fifths to cut off, of one image of a class at least.

    Returns:
        `count` sets and the rest, which all keep the pool's order.
    """
    rank, of_class = _rank_within_class(pool.labels)
    part = rank // np.maximum(1, of_class // 5)
    fifths = [_where(pool, part == number) for number in range(count)]
    return [*fifths, _where(pool, part >= count)]


def first_of_each_class(
    pool: Split, train_per_class: int | None, class_names: Sequence[str]
) -> Split:
    """The first `train_per_class` images of each class, None for all; raises as the function above.

    It is for a pool that holds training images alone.
    """
    counts = np.bincount(pool.labels, minlength=len(class_names))
    smallest = int(counts.argmin())
    if counts[smallest] < (train_per_class or 1):
        raise UserError(
            f"class {class_names[smallest]} has {counts[smallest]} training "
            f"example{'s' * int(counts[smallest] != 1)}: the largest "
            f"--train_per_class possible is {counts[smallest]}"
        )
    if train_per_class is None:
        return pool
    return _where(pool, _rank_within_class(pool.labels)[0] < train_per_class)


def _check_enough(labels: np.ndarray, train_per_class: int, class_names: Sequence[str]) -> None:
    counts = np.bincount(labels, minlength=len(class_names))
    smallest = int(counts.argmin())
    needed = train_per_class + VALIDATION_PER_CLASS
    if counts[smallest] >= needed:
        return
    largest = int(counts[smallest]) - VALIDATION_PER_CLASS
    advice = (
        f"the largest --train_per_class possible is {largest}"
        if largest > 0
        else "no --train_per_class is possible with these data"
    )
    raise UserError(
        f"class {class_names[smallest]} has {counts[smallest]} images for training and "
        f"validation, but {needed} are "
        f"needed ({train_per_class} to train on and {VALIDATION_PER_CLASS} to validate on): "
        f"{advice}"
    )


def _rank_within_class(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each image: how many of its class stand before it, and how many its class has."""
    rank = np.empty(len(labels), np.int64)
    count = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        (places,) = np.nonzero(labels == label)
        rank[places] = np.arange(len(places))
        count[places] = len(places)
    return rank, count


def _where(split: Split, keep: np.ndarray) -> Split:
    return Split(split.images[keep], split.labels[keep])
