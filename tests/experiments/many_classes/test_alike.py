"""How probability is shared among letters that are drawn alike."""

import numpy as np
import pytest

from experiments.data.glyphs import CHARACTERS
from experiments.many_classes import alike

LABELS = np.array([0, 2, 1, 3])
GROUPS = [[0, 2], [1, 3, 4]]


def test_fair_shares_have_no_excess() -> None:
    probs = np.full((2, 4, 6), 0.02)
    probs[:, :2, [0, 2]] = 0.46
    probs[:, 2:, [1, 3, 4]] = 0.94 / 3
    found = alike.measure(np.log(probs), LABELS, GROUPS)
    assert found["group_error_percent"] == [0, 0]
    np.testing.assert_allclose(found["excess_nats"], 0, atol=1e-12)
    fair = 100 * (2 / 2 + 2 / 3) / 4
    np.testing.assert_allclose(found["largest_share_percent"], fair)
    np.testing.assert_allclose(found["fair_share_percent"], fair)


def test_a_model_that_is_sure_and_half_the_time_wrong() -> None:
    probs = np.full((1, 2, 3), 0.1)
    probs[..., 0] = 0.8
    found = alike.measure(np.log(probs), np.array([0, 1]), [[0, 1]])
    assert found["largest_share_percent"] == [pytest.approx(100 * 8 / 9)]
    excess = -(np.log(8 / 9) + np.log(1 / 9)) / 2 - np.log(2)
    assert found["excess_nats"] == [pytest.approx(excess)]


def test_images_of_other_classes_do_not_count() -> None:
    log_probs = np.log(np.full((1, 3, 5), 0.2))
    log_probs[0, 1] = np.log([0.96, 0.01, 0.01, 0.01, 0.01])
    found = alike.measure(log_probs, np.array([1, 0, 2]), [[1, 2]])
    assert found["largest_share_percent"] == [pytest.approx(50)]


def test_which_letters_have_doubles() -> None:
    assert alike.groups("glyphs:62", CHARACTERS[:62]) == []
    capitals = ("O", "Z", "\N{GREEK CAPITAL LETTER OMICRON}", "\N{CYRILLIC CAPITAL LETTER O}")
    assert alike.groups("glyphs:4", capitals) == [[0, 2, 3]]
    assert alike.groups("mnist", ("0", "1")) == []
