"""Means over seeds, with their uncertainty."""

from collections.abc import Sequence

import numpy as np


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the half width of its 95 % confidence interval, by Student's t.

    Args:
        values: One per seed.

    Returns:
        The mean, and the half width; NaN for a single value, which has no spread.

    >>> mean, half_width = mean_and_half_width([3.74, 3.49, 3.36, 3.63, 3.51])
    >>> round(mean, 3), round(half_width, 3)
    (3.546, 0.18)
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan")
    if not np.ptp(values):
        return mean, 0.0
    # Only now: most runs have one seed. The import of scipy.stats would take a second.
    from scipy.special import stdtrit

    error_of_mean = np.std(values, ddof=1) / np.sqrt(len(values))
    return mean, float(stdtrit(len(values) - 1, 0.975) * error_of_mean)


def paired_difference(
    values: Sequence[float], baseline: Sequence[float]
) -> tuple[float, float, float]:
    """The mean difference of paired values, and whether it may be chance.

    Args:
        values: One per seed.
        baseline: Of the same seeds.

    Returns:
        The mean of `values - baseline`, the half width of its 95 % confidence interval, and the
        p-value of a two-sided paired t-test; NaN where there is no spread to judge by.

    >>> difference, half_width, p_value = paired_difference([3.7, 3.5, 3.4], [5.1, 4.8, 5.0])
    >>> round(difference, 3), round(half_width, 3), round(p_value, 3)
    (-1.433, 0.379, 0.004)
    """
    mean, half_width = mean_and_half_width(np.subtract(values, baseline).tolist())
    if not half_width > 0:
        return mean, half_width, float("nan")
    from scipy.stats import ttest_rel

    return mean, half_width, float(ttest_rel(values, baseline).pvalue)
