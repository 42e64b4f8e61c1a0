"""The names of countries and languages."""

import sys

import numpy as np
import pytest

from experiments.cli.errors import UserError
from experiments.data import datasets, languages
from experiments.data.sources import Request, SourceData
from experiments.data.split import Split


def load(num_classes: int | None = None) -> SourceData:
    return languages.load(Request("languages", num_classes=num_classes))


@pytest.fixture(scope="module")
def data() -> SourceData:
    return load()


def sets(data: SourceData) -> dict[str, Split]:
    assert data.validation is not None
    return {"pool": data.pool, "validation": data.validation, "test": data.test}


def texts(split: Split, label: int) -> list[str]:
    return [languages.text_of(row) for row in split.images[split.labels == label]]


def test_there_are_about_190_languages(data: SourceData) -> None:
    assert 180 <= len(data.class_names) <= 200
    assert len(set(data.class_names)) == len(data.class_names)
    assert {"English (en)", "German (de)", "Welsh (cy)", "Thai (th)"} <= {*data.class_names}


def test_sets_have_equally_many_of_each_class_in_turns(data: SourceData) -> None:
    count = len(data.class_names)
    for name, split in sets(data).items():
        size = languages.SIZES[name]
        assert split.images.shape == (size * count, 48)
        assert split.images.dtype == np.uint8
        assert split.labels.tolist() == [*range(count)] * size


def test_no_set_has_a_country_or_language_of_another_set(data: SourceData) -> None:
    entities: dict[str, set[object]] = {}
    for label, own in enumerate(languages._names_by_class().values()):
        by_name = {name: entity for entity, name in own.items()}
        for which, split in sets(data).items():
            found = {by_name[name] for name in texts(split, label)}
            assert len(found) == languages.SIZES[which]
            entities.setdefault(which, set()).update(found)
    assert not entities["pool"] & (entities["validation"] | entities["test"])
    assert not entities["validation"] & entities["test"]


def test_rows_are_whole_names_of_a_language(data: SourceData) -> None:
    german = data.class_names.index("German (de)")
    assert "Deutschland" in languages._names_by_class()["de"].values()
    for label in (german, 0, len(data.class_names) - 1):
        found = [name for split in sets(data).values() for name in texts(split, label)]
        assert len(set(found)) == len(found) == sum(languages.SIZES.values())
        assert all(found)


def test_rows_have_zeros_behind_the_name_alone(data: SourceData) -> None:
    for split in sets(data).values():
        lengths = (split.images > 0).sum(1)
        assert lengths.min() >= 1
        assert (split.images.argmin(1)[lengths < 48] == lengths[lengths < 48]).all()
    assert languages.text_of(languages.encoded("Åland")) == "Åland"
    assert len(languages.encoded("x" * 100)) == 48


def test_what_is_spelled_as_in_english_is_english() -> None:
    names = languages._names_by_class()
    for code, own in names.items():
        same = {e for e in own if names["en"].get(e, "").casefold() == own[e].casefold()}
        assert same == ({*own} if code == "en" else set())


def test_of_two_languages_with_most_names_in_common_one_stays() -> None:
    names = languages._names_by_class()
    assert not {"nb", "nn"} & names.keys()  # Both inherit from `no`.
    own = [set(found.values()) for found in names.values()]
    shared = [
        len(own[later] & own[earlier]) / len(own[later])
        for later in range(len(own))
        for earlier in range(later)
    ]
    assert max(shared) <= 0.5


def test_classes_with_most_names_come_first() -> None:
    sizes = [len(names) for names in languages._names_by_class().values()]
    assert sizes == sorted(sizes, reverse=True)


def test_fewer_classes_are_the_first_ones(data: SourceData) -> None:
    few = load(5)
    assert few.name == "languages:5"
    assert few.class_names == data.class_names[:5]
    for name, split in sets(few).items():
        of_all = sets(data)[name]
        first = of_all.labels < 5
        assert np.array_equal(split.images, of_all.images[first])
        assert np.array_equal(split.labels, of_all.labels[first])


def test_what_no_classifier_can_tell_apart(data: SourceData) -> None:
    """What the module's docstring says of names that several languages have."""
    babel = pytest.importorskip("babel")
    least = 100 * (1 - len({row.tobytes() for row in data.test.images}) / len(data.test.images))
    assert 10 < least < 20
    if babel.__version__ == "2.18.0":
        assert len(data.class_names) == 191
        assert least == pytest.approx(14.2, abs=0.05)


def test_the_order_of_names_is_kept(data: SourceData) -> None:
    """A hash decides on it, not Babel's order: it is the same with every version of Python."""
    found = languages._digest(languages._Entity("territory", "DE")).hex()
    assert found == "987d020abffcd7d9"
    again = load(3)
    languages._names_by_class.cache_clear()
    assert np.array_equal(load(3).pool.images, again.pool.images)


@pytest.mark.parametrize("count", [1, 561])
def test_there_are_not_so_many(count: int) -> None:
    with pytest.raises(UserError, match=r"--num_classes must be from 2 to 1\d\d, not"):
        load(count)


def test_without_babel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "babel", None)
    with pytest.raises(UserError) as caught:
        load(5)
    assert "which is not installed: pip install 'babel>=2.16'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_training_takes_the_first_names_of_the_pool() -> None:
    dataset = datasets.load("languages", num_classes=4, train_per_class=12)
    assert np.array_equal(dataset.train.images, load(4).pool.images[: 4 * 12])
    with pytest.raises(UserError, match="has 48 training examples: the largest"):
        datasets.load("languages", num_classes=4, train_per_class=49)
