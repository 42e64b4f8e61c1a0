"""Images from TensorFlow Datasets (tfds), without TensorFlow.

Without TensorFlow, tfds can read prepared data, but it cannot prepare MNIST, CIFAR and their like:
the builders it ships read, unpack and encode images with TensorFlow. The builder here uses NumPy
and Pillow, and writes the same examples. So `tfds.builder("mnist")` of any other program reads what
this one has prepared, and the reverse.
"""

import contextlib
import http.client
import importlib
import io
import os
import struct
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from PIL import Image

from experiments.cli.errors import UserError
from experiments.data.readers import idx
from experiments.data.split import Split

_INSTALL = "pip install 'tensorflow-datasets>=4.9.10' array-record importlib-resources"


# How long the download's host has to answer if the user asked for these data.
PATIENT_SECONDS = 15.0

# What a builder writes of one split: each example with the key that decides on its place.
Examples = Iterator[tuple[int, Any]]


class UnavailableError(UserError):
    """A data set cannot be had from tfds here and now, though the user asked nothing wrong."""


class TfdsSet(NamedTuple):
    """A data set that tfds knows.

    Attributes:
        title: What it is called in messages.
        builder: The class of its builder in `tfds.image_classification`.
        examples: Makes the examples of each split from the downloaded files, by their names, and
            from the builder; they are those of tfds's own builder, with its keys.
        labels: Which labels tfds stores.
        image_shape: As of `Split`.
        config: Of the builder, which may have several; None if it has one.
    """

    title: str
    builder: str
    examples: Callable[[Mapping[str, Path], Any], Mapping[str, Examples]]
    labels: range = range(10)
    image_shape: tuple[int, ...] = (28, 28)
    config: str | None = None


class Loaded(NamedTuple):
    """What tfds holds: the two sets as it stores them, and the names of its classes."""

    train: Split
    test: Split
    class_names: tuple[str, ...]


def load(
    known: TfdsSet, data_dir: str | os.PathLike[str] | None, *, timeout: float = PATIENT_SECONDS
) -> Loaded:
    """Reads a data set as tfds has prepared it; downloads and prepares it first where it has not.

    Args:
        known: The data set.
        data_dir: Folder of tfds; None for its default.
        timeout: How many seconds the download's host has to answer.

    Returns:
        The training set and the test set, in the shuffled order of their records; the order is
        the same on every machine.

    Raises:
        UnavailableError: tfds is not installed, or there is nothing prepared and no network, or
            tfds's default folder does not serve.
        UserError: `data_dir` is given and does not serve.
    """
    tfds = _import_tfds()
    failure = UnavailableError if data_dir is None else UserError
    root = None if data_dir is None else os.path.expanduser(data_dir)
    with _quiet():
        folder, downloads = _folders(tfds, known, root)
        if not _is_prepared(folder):
            _prepare(tfds, known, root, folder, downloads, timeout, failure)
        with _one_line(
            f"{folder} cannot be read; delete it to prepare {known.title} again", failure
        ):
            builder = _parent(tfds, known)(data_dir=root, config=known.config)
            return Loaded(
                _read(builder, "train", known),
                _read(builder, "test", known),
                tuple(builder.info.features["label"].names),
            )


def load_or_advise(known: TfdsSet, data_dir: str | os.PathLike[str] | None, advice: str) -> Loaded:
    """`load`, whose every error is a `UserError` that says what else can be done."""
    try:
        return load(known, data_dir)
    except UnavailableError as error:
        raise UserError(f"{known.title} cannot be had: {error} ({advice})") from error


def _import_tfds() -> Any:
    try:
        # tfds imports its parts when they are used; this one needs all that preparing needs.
        importlib.import_module("tensorflow_datasets.image_classification")
        return importlib.import_module("tensorflow_datasets")
    # A broken installation fails with more than ImportError, protobuf with TypeError.
    except Exception as error:
        raise UnavailableError(
            f"tensorflow-datasets cannot be imported ({_first_line(error)}): {_INSTALL}"
        ) from error


def _parent(tfds: Any, known: TfdsSet) -> Any:
    return getattr(tfds.image_classification, known.builder)


def _folders(tfds: Any, known: TfdsSet, root: str | None) -> tuple[Any, Any]:
    """Where this tfds keeps the data and downloads. Builders know it, but fail on damaged data."""
    parent = _parent(tfds, known)
    data_dir, folder = tfds.core.utils.file_utils.get_data_dir_and_dataset_dir(
        given_data_dir=root,
        builder_name=parent.name,
        config_name=known.config,
        version=str(parent.VERSION),
    )
    folder = folder.expanduser()
    if str(folder).startswith("~"):
        raise UnavailableError(
            f"there is no home folder for {folder}: pass --data_dir, or set TFDS_DATA_DIR"
        )
    return folder, data_dir.expanduser() / "downloads"


def _is_prepared(folder: Any) -> bool:
    # tfds takes any folder for a prepared one, but this file is written last.
    try:
        return bool((folder / "dataset_info.json").exists())
    except OSError:
        return False


def _prepare(
    tfds: Any,
    known: TfdsSet,
    root: str | None,
    folder: Any,
    downloads: Any,
    timeout: float,
    failure: type[UserError],
) -> None:
    with _one_line(f"{folder} cannot be used", failure):
        _check_writable(folder)
    builder = _builder_class(tfds, known)(data_dir=root, config=known.config)
    url = next(iter(builder.url_infos))
    # tfds itself would try for minutes.
    if not _is_downloaded(builder, downloads) and not is_reachable(url, timeout):
        raise UnavailableError(f"it is not prepared in {folder}, and {url} does not answer")
    config = tfds.download.DownloadConfig(try_download_gcs=False, force_checksums_validation=True)
    try:
        with _one_line(f"{known.title} could not be prepared in {folder}", failure):
            builder.download_and_prepare(
                download_dir=downloads, download_config=config, file_format="array_record"
            )
    except UserError:
        # Another process may have been quicker.
        if not _is_prepared(folder):
            raise


def _check_writable(folder: Any) -> None:
    # Before any download, and without creating anything.
    if folder.exists():
        raise FileExistsError("it is only half prepared: delete it")
    above = next(parent for parent in folder.parents if parent.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"{above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f"{above} is not writable")


def _is_downloaded(builder: Any, downloads: Any) -> bool:
    resource = importlib.import_module("tensorflow_datasets.core.download.resource")
    names = [resource.get_dl_fname(url, info.checksum) for url, info in builder.url_infos.items()]
    # Older versions of tfds keep the downloads of all datasets in one folder.
    return all(
        any(
            resource.is_locally_cached(folder / name)
            for folder in (downloads / builder.name, downloads)
        )
        for name in names
    )


def is_reachable(url: str, timeout: float) -> bool:
    """Whether `url` answers within `timeout` seconds, by way of the usual proxies."""
    answered = threading.Event()

    def ask() -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=timeout):
                answered.set()

    # In a thread, since urllib's timeout does not cover the look-up of the host's name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    return answered.is_set()


def _builder_class(tfds: Any, known: TfdsSet) -> Any:
    """A builder that writes what tfds's own writes, without TensorFlow."""
    parent: Any = _parent(tfds, known)
    checksums = importlib.import_module("tensorflow_datasets.core.download.checksums")

    class Builder(parent, skip_registration=True):  # type: ignore[misc, call-arg]
        # tfds stores the builder's module with the data; with this one, tfds itself reads them.
        __module__ = parent.__module__
        name = parent.name
        url_infos = parent.url_infos

        def _split_generators(self, dl_manager: Any) -> Mapping[str, Examples]:
            urls = {info.filename: url for url, info in self.url_infos.items()}
            files = dl_manager.download(urls)
            for name, path in files.items():
                # tfds checks a file when it downloads it, but not one that it finds.
                if checksums.compute_url_info(path).checksum != (
                    self.url_infos[urls[name]].checksum
                ):
                    raise ValueError(f"{path} has a wrong checksum: delete it")
            files = {name: Path(path) for name, path in files.items()}
            return known.examples(files, self)

    return Builder


def png(image: np.ndarray) -> io.BytesIO:
    """An image, grey or colour, in a file that tfds takes as it is; arrays need TensorFlow."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="png")
    file.seek(0)
    return file


def _read(builder: Any, name: str, known: TfdsSet) -> Split:
    info = builder.info.splits[name]
    if not 1 <= info.num_examples <= idx.MAX_IMAGES:
        raise ValueError(f"the split {name} claims {info.num_examples} images")
    images = np.empty((info.num_examples, *known.image_shape), np.uint8)
    labels = np.empty(info.num_examples, np.int32)
    records = _records(builder, name)
    for index, record in zip(range(info.num_examples), records, strict=True):
        # tfds gives grey images a channel.
        images[index] = record["image"].reshape(known.image_shape)
        labels[index] = record["label"]
    if labels.min() not in known.labels or labels.max() not in known.labels:
        first, last = known.labels[0], known.labels[-1]
        raise ValueError(f"the split {name} has labels that are not {first} to {last}")
    return Split(images, labels)


def _records(builder: Any, name: str) -> Iterator[Any]:
    formats = {file_format.value for file_format in builder.info.available_file_formats()}
    if formats == {"tfrecord"}:
        # What most programs with TensorFlow have prepared; tfds reads it with TensorFlow only.
        for path in builder.info.splits[name].filepaths:
            for data in _tfrecords(path.read_bytes()):
                yield builder.info.features.deserialize_example_np(data)
    else:
        source = builder.as_data_source(name)
        # In batches, which array_record reads twice as fast as single records.
        for start in range(0, len(source), 1000):
            yield from source.__getitems__(range(start, min(start + 1000, len(source))))


def _tfrecords(data: bytes) -> Iterator[bytes]:
    """Cuts a TFRecord file into records.

    A record is its length (uint64), a checksum of the length (uint32), the data and their checksum
    (uint32), little-endian. The checksums are not verified: the images are PNGs, with their own.

    References:
        https://www.tensorflow.org/tutorials/load_data/tfrecord
    """
    start = 0
    while start < len(data):
        if start + 12 > len(data):
            raise ValueError("a record file is truncated")
        (length,) = struct.unpack_from("<Q", data, start)
        end = start + 12 + length
        if end + 4 > len(data):
            raise ValueError("a record file is truncated")
        yield data[start + 12 : end]
        start = end + 4


@contextlib.contextmanager
def _one_line(what: str, failure: type[UserError]) -> Iterator[None]:
    """Raises whatever goes wrong inside as one line that starts with `what`."""
    try:
        yield
    except ImportError as error:
        # tfds imports the package of a file format when it meets such a file.
        raise UnavailableError(f"{_first_line(error)}: {_INSTALL}") from error
    # tfds and what it calls raise errors of any class, and with long texts.
    except Exception as error:
        raise failure(f"{what}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(":") if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences what tfds logs, which is addressed to authors of datasets."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
