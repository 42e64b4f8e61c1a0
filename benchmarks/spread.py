"""Medians of alternating rounds, and how far apart the rounds are."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """The median and the extremes of the rounds."""

    median: float
    smallest: float
    largest: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.smallest:.2f} to {self.largest:.2f})"


def spread(values: Sequence[float]) -> Spread:
    """The median, the smallest and the largest of one value per round.

    >>> print(spread([1.0, 1.5, 1.2]))
    1.20 (1.00 to 1.50)
    """
    return Spread(statistics.median(values), min(values), max(values))


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """The quotient in each round of two values that were measured one after the other.

    A machine that slows down for some rounds slows both, and leaves their quotient alone.

    >>> print(ratios([2.0, 1.0], [1.0, 1.0]))
    1.50 (1.00 to 2.00)
    """
    return spread([one / other for one, other in zip(numerators, denominators, strict=True)])
