"""Means over seeds, with their uncertainty."""

from collections.abc import Sequence

import numpy as np


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the half width of its 95 % confidence interval, by Student's t.

    Args:
        values: one per seed.

    Returns:
        The mean, and the half width; NaN for a single value, which has no spread.

    >>> mean, half_width = mean_and_half_width([3.74, 3.49, 3.36, 3.63, 3.51])
    >>> round(mean, 3), round(half_width, 3)
    (3.546, 0.178)
    """
    from scipy.special import stdtrit

    count = len(values)
    if count < 2:
        return float(np.mean(values)), float("nan")
    error = np.std(values, ddof=1) / np.sqrt(count)
    return float(np.mean(values)), float(stdtrit(count - 1, 0.975) * error)
