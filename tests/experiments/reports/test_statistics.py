import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.reports.statistics import mean_and_half_width

VALUES = st.lists(st.floats(0, 100), min_size=2, max_size=30)


@given(VALUES)
def test_is_the_interval_of_students_t(values: list[float]) -> None:
    mean, half_width = mean_and_half_width(values)
    assert math.isclose(mean, sum(values) / len(values), abs_tol=1e-12)
    error = stats.sem(values)
    if error == 0:
        assert half_width == 0
        return
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=error)
    np.testing.assert_allclose([mean - half_width, mean + half_width], [low, high], rtol=1e-9)


@given(VALUES, st.floats(-50, 50), st.floats(0.1, 10))
def test_moves_and_stretches_with_the_values(
    values: list[float], shift: float, scale: float
) -> None:
    mean, half_width = mean_and_half_width(values)
    moved, stretched = mean_and_half_width([scale * value + shift for value in values])
    np.testing.assert_allclose(moved, scale * mean + shift, atol=1e-8)
    np.testing.assert_allclose(stretched, scale * half_width, atol=1e-8)


@pytest.mark.parametrize("value", [0.0, 3.5])
def test_a_single_value_has_no_spread(value: float) -> None:
    mean, half_width = mean_and_half_width([value])
    assert mean == value
    assert math.isnan(half_width)


def test_covers_the_true_mean_as_often_as_it_says() -> None:
    samples = np.random.default_rng(0).normal(5, 2, (4000, 5))
    intervals = [mean_and_half_width(sample.tolist()) for sample in samples]
    covered = np.mean([abs(mean - 5) < half_width for mean, half_width in intervals])
    assert 0.94 < covered < 0.96
