"""Names of countries and languages, from the CLDR data that the package Babel ships.

A class is a language, and an example is a name that it has for a country, a region or a language,
as a row of 48 UTF-8 bytes with zeros behind. `Deutschland` and `Tyskland` are examples of German
and Swedish. The test set has names of countries and languages that training has not seen in any
language, so a model must learn spelling, not names.

Four rules decide on names and classes:

- A name that is spelled as in English, but for capitals, counts as English: the data do not say
  whether it has been translated. The other languages leave it out.
- A language has a name once. Names of more than 48 bytes and mere codes are left out.
- A language without enough names is no class, and neither is one that inherits its names from
  another, as Nynorsk does from Norwegian.
- The languages with most names come first. One goes if more than half of its names are those of a
  language before it, as Danish does after Norwegian.

With Babel 2.18, 191 classes are left. Many names are shared all the same, so that no classifier
gets below 14.2 % of errors on the test set, but for luck.
"""

import functools
import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments.cli.errors import UserError
from experiments.data.sources import Request, SourceData
from experiments.data.split import Split

if TYPE_CHECKING:
    from babel import Locale

LENGTH = 48
# How many names of each class a set has.
SIZES = {"pool": 48, "validation": 24, "test": 24}
_MOST_SHARED = 0.5


class _Entity(NamedTuple):
    """What has a name in many languages: `DE` of the kind `territory`, or `de` of `language`."""

    kind: str
    code: str


_Names = dict[_Entity, str]


@functools.cache
def _digest(entity: _Entity) -> bytes:
    return hashlib.blake2b(f"{entity.kind} {entity.code}".encode(), digest_size=8).digest()


def _set_of(entity: _Entity) -> str:
    """The set that an entity's names are in, whatever the language."""
    return ("test", "validation", "pool", "pool")[_digest(entity)[-1] % 4]


def load(request: Request) -> SourceData:
    """Reads the names.

    Args:
        request: `num_classes` takes the first ones, those with the most names; all by default.

    Returns:
        A pool of 48 names a class; 24 to validate on; 24 to test on. Names of the same country or
        language are all in one of these. In all of them, the classes take turns.

    Raises:
        UserError: There are not as many classes, or Babel is not installed.

    Example:
        >>> data = load(Request("languages", num_classes=10))
        >>> data.name, data.pool.images.shape, data.class_names[1]
        ('languages:10', (480, 48), 'English (en)')
        >>> text_of(encoded("España"))
        'España'
    """
    try:
        import babel
    except ImportError as error:
        raise UserError(
            "the dataset languages is made from the package Babel, which is not installed: "
            "pip install 'babel>=2.16'"
        ) from error
    names = _names_by_class()
    num_classes = len(names) if request.num_classes is None else request.num_classes
    if not 2 <= num_classes <= len(names):
        raise UserError(f"--num_classes must be from 2 to {len(names)}, not {num_classes}")
    codes = list(names)[:num_classes]
    splits = {which: _split([_in_set(names[code], which) for code in codes]) for which in SIZES}
    english = babel.Locale("en").languages
    return SourceData(
        f"languages:{num_classes}",
        splits["pool"],
        splits["test"],
        f"names of countries and languages in {num_classes} languages, from Babel "
        f"{babel.__version__}: tested on names of others than trained on",
        tuple(f"{english[code]} ({code})" if code in english else code for code in codes),
        splits["validation"],
    )


def encoded(name: str) -> np.ndarray:
    """A name as uint8 `[48]`, its UTF-8 bytes with zeros behind; longer ones are cut."""
    row = np.zeros(LENGTH, np.uint8)
    content = name.encode()[:LENGTH]
    row[: len(content)] = np.frombuffer(content, np.uint8)
    return row


def text_of(row: np.ndarray) -> str:
    """The inverse of `encoded`."""
    return row.tobytes().rstrip(b"\0").decode()


@functools.cache
def _names_by_class() -> dict[str, _Names]:
    """The names of each class, by its code, in the order of the labels."""
    from babel import Locale, core, localedata

    inheriting = core.get_global("parent_exceptions")
    codes = [code for code in localedata.locale_identifiers() if "_" not in code]
    english = _spelled(Locale("en"))
    found: dict[str, _Names] = {}
    for code in sorted(set(codes) - set(inheriting)):
        names = _usable(_spelled(Locale(code)), {} if code == "en" else english)
        if all(len(_in_set(names, which)) == size for which, size in SIZES.items()):
            found[code] = names
    kept: dict[str, _Names] = {}
    spellings: list[set[str]] = []
    for code in sorted(found, key=lambda code: (-len(found[code]), code)):
        own = set(found[code].values())
        if all(len(own & other) <= _MOST_SHARED * len(own) for other in spellings):
            kept[code] = found[code]
            spellings.append(own)
    return kept


def _spelled(locale: "Locale") -> _Names:
    """All names of a locale but those of variants of a language, in an order of no meaning."""
    names = {_Entity("territory", code): name for code, name in locale.territories.items()}
    for code, name in locale.languages.items():
        if "_" not in code:
            names[_Entity("language", code)] = name
    return {entity: names[entity] for entity in sorted(names, key=_digest)}


def _usable(names: _Names, english: _Names) -> _Names:
    """Those that are neither English, nor a code, nor too long, nor there before."""
    usable: dict[str, _Entity] = {}
    for entity, name in names.items():
        is_own = name not in ("", entity.code)
        is_own &= name.casefold() != english.get(entity, "").casefold()
        if is_own and len(name.encode()) <= LENGTH:
            usable.setdefault(name, entity)
    return {entity: name for name, entity in usable.items()}


def _in_set(names: _Names, which: str) -> list[str]:
    """As many names as a class has in a set, or fewer if there are not as many."""
    return [name for entity, name in names.items() if _set_of(entity) == which][: SIZES[which]]


def _split(of_class: list[list[str]]) -> Split:
    """Names of each class, as rows in which the classes take turns."""
    rows = [encoded(name) for turn in zip(*of_class, strict=True) for name in turn]
    labels = np.tile(np.arange(len(of_class), dtype=np.int32), len(of_class[0]))
    return Split(np.stack(rows), labels)
