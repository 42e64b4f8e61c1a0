"""Which data an experiment trains, validates and tests on."""

import dataclasses
import hashlib
import importlib
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.cli.errors import UserError
from experiments.data.catalogue import DIGITS, ROWS, row_of
from experiments.data.sources import Request, SourceData
from experiments.data.split import Split, first_of_each_class, train_validation
from experiments.runtime import jax_settings
from experiments.train.config import Config


class Dataset(NamedTuple):
    """The sets of an experiment.

    Attributes:
        name: A row of the catalogue, which may go on with a detail after a colon, or the name of a
            folder of other images in MNIST's format.
        train: What the parameters are fitted to.
        validation: What choices are made on; no image of it is in `train`.
        test: What figures are of.
        note: One line that says which data these are and what this means for the figures.
        class_names: Of the classes, in the order of the labels.
        other_tests: Further test sets, by name.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    note: str
    class_names: tuple[str, ...] = DIGITS
    other_tests: Mapping[str, Split] = {}

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height and width of the images, and 3 where they are colour; or the length of texts."""
        return self.train.images.shape[1:]

    def fingerprint(self) -> str:
        """A hash of all images and labels: the same for the same data in the same order."""
        splits = [self.train, self.validation, self.test, *self.other_tests.values()]
        total = 0
        for number, split in enumerate(splits):
            for row, (image, label) in enumerate(zip(*split, strict=True)):
                content = f"{number} {row} {label} ".encode() + image.tobytes()
                total += int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
        sizes = [len(split.labels) for split in splits]
        return hashlib.sha256(f"{sizes} {total % 2**64}".encode()).hexdigest()[:16]


def load(
    dataset: str = "auto",
    *,
    mnist_path: str | os.PathLike[str] | None = None,
    train_per_class: int | None = 100,
    **options: Any,
) -> Dataset:
    """Loads a data set.

    Args:
        dataset: A row of the catalogue. With `mnist_path`, `mnist` requires MNIST, and any other
            name is that of the folder.
        mnist_path: Folder of the four IDX files to read instead of any download.
        train_per_class: Training images of each class, None for all.
        options: Of `Request`.

    Returns:
        The training, validation and test sets.

    Raises:
        UserError: An argument is wrong, or the data cannot be had or read.

    Example:
        >>> data = load("mnist_5k", train_per_class=100)
        >>> len(data.train.labels), len(data.validation.labels), len(data.test.labels)
        (1000, 1000, 2000)
    """
    name, _, _ = dataset.partition(":")
    if name not in ROWS and mnist_path is None:
        raise UserError(f"unknown --dataset={dataset}: choose one of {', '.join(ROWS)}")
    # Before any download.
    if train_per_class is not None and train_per_class <= 0:
        raise UserError(f"--train_per_class must be positive or 'all', not {train_per_class}")
    row = row_of(name)
    request = Request(name, **options)
    _check_options(request, mnist_path)
    if mnist_path is not None:
        request = request._replace(data_path=mnist_path)
    module = importlib.import_module(f"experiments.data.{row.source}")
    source: SourceData = module.load(request)
    if source.validation is None:
        train, validation = train_validation(source.pool, train_per_class, source.class_names)
    else:
        train = first_of_each_class(source.pool, train_per_class, source.class_names)
        validation = source.validation
    return Dataset(
        source.name,
        train,
        validation,
        source.test,
        source.note,
        source.class_names,
        source.other_tests,
    )


def load_for(config: Config) -> Dataset:
    """Loads the data that a configuration names; see `load`."""
    return load(
        config.dataset,
        mnist_path=config.mnist_path,
        data_path=config.data_path,
        data_dir=config.data_dir,
        num_classes=config.num_classes,
        image_size=config.image_size,
        train_per_class=config.train_per_class,
    )


def load_aloud(config: Config) -> Dataset:
    """`load_for`, which also prints what the data are."""
    dataset = load_for(config)
    print(f"data: {dataset.note}", flush=True)
    return dataset


def configured(config: Config, dataset: Dataset) -> Config:
    """A configuration for the data that were loaded, with JAX's settings of now if it has none."""
    settings = jax_settings.current() if config.jax_settings is None else config.jax_settings
    return dataclasses.replace(
        config,
        dataset=dataset.name,
        data_fingerprint=dataset.fingerprint(),
        image_shape=dataset.image_shape,
        class_names=dataset.class_names,
        jax_settings=settings,
    )


def _check_options(request: Request, mnist_path: Any) -> None:
    """Raises `UserError` for an option that means nothing to the data set."""
    row = row_of(request.name)
    if mnist_path is not None:
        if row.source != "mnist" or "data_path" not in row.options:
            raise UserError(
                f"--mnist_path and --dataset={request.name} contradict each other: drop one"
            )
        if request.data_path is not None:
            raise UserError("--mnist_path and --data_path say the same: drop one")
    for option in Request._fields[1:]:
        # Where TensorFlow Datasets is kept is said for all data sets alike.
        if option in row.options or option == "data_dir":
            continue
        if getattr(request, option) is not None:
            raise UserError(f"--{option} means nothing to --dataset={request.name}: leave it out")
