"""The numbers behind the figures: orders, invariances, limits."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax
from scipy.stats import spearmanr

from dropmax_jax import METHODS, Heads
from experiments.figures import boundaries, correlation, cross_entropy, retained, scatter
from experiments.figures.subject import in_markdown
from tests.dropmax_jax import oracle

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 6, 200).astype(np.int32)
LOGITS, PRIOR, LABEL_LOGITS = RNG.normal(size=(3, 200, 6)) * 2
HEADS = Heads(jnp.asarray(LOGITS), jnp.asarray(PRIOR), jnp.asarray(LABEL_LOGITS))


class TestEasyAndDifficult:
    ENTROPY = retained.entropies(oracle.log_softmax(LOGITS))

    def test_entropies_lie_between_a_sure_and_an_even_prediction(self) -> None:
        logits = np.array([[0.0] * 6, [1e4, 0, 0, 0, 0, 0]])
        found = retained.entropies(log_softmax(logits, -1))
        np.testing.assert_allclose(found, [np.log(6), 0], atol=1e-12)
        assert np.all((self.ENTROPY > 0) & (np.log(6) > self.ENTROPY))

    def test_no_image_of_a_class_is_easier_than_the_one_shown(self) -> None:
        found = retained.easiest(self.ENTROPY, LABELS, 6)
        assert np.all(np.diff(self.ENTROPY[found]) >= 0)
        assert sorted(LABELS[found]) == list(range(6))
        for index in found:
            assert self.ENTROPY[index] == self.ENTROPY[LABELS[index] == LABELS].min()

    def test_fewer_are_the_first_of_more(self) -> None:
        many = retained.easiest(-self.ENTROPY, LABELS, 6)
        for count in range(6):
            np.testing.assert_array_equal(
                retained.easiest(-self.ENTROPY, LABELS, count), many[:count]
            )
        assert self.ENTROPY[many[0]] == self.ENTROPY.max()

    def test_the_order_of_the_images_does_not_matter(self) -> None:
        order = RNG.permutation(len(LABELS))
        there = retained.easiest(self.ENTROPY[order], LABELS[order])
        np.testing.assert_array_equal(order[there], retained.easiest(self.ENTROPY, LABELS))


class TestPosterior:
    def test_the_target_is_always_retained_and_the_rest_follow_r(self) -> None:
        found = retained.posterior(HEADS, LABELS)
        target = np.eye(6, dtype=bool)[LABELS]
        assert np.all(found[target] == 1)
        expected = expit(PRIOR + LABEL_LOGITS)
        np.testing.assert_allclose(found[~target], expected[~target], rtol=1e-5)

    def test_without_evidence_it_is_the_prior(self) -> None:
        found = retained.posterior(HEADS._replace(label_logits=jnp.zeros((200, 6))), LABELS)
        target = np.eye(6, dtype=bool)[LABELS]
        np.testing.assert_allclose(found[~target], expit(PRIOR)[~target], rtol=1e-5)

    def test_others_are_counted_without_the_target(self) -> None:
        assert retained.others_retained(np.ones((3, 6)), np.arange(3)).tolist() == [5, 5, 5]
        assert retained.others_retained(np.eye(6), np.arange(6)).tolist() == [0] * 6


def symmetric(count: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, count))
    return values + values.T


class TestCorrelation:
    def test_is_pearsons(self) -> None:
        values = expit(PRIOR)
        np.testing.assert_allclose(correlation.correlations(values), np.corrcoef(values.T))

    def test_of_a_class_that_is_always_retained_is_unknown(self) -> None:
        values = expit(PRIOR)
        values[:, 2] = 1
        found = correlation.correlations(values)
        assert np.isnan(found[2]).all()
        assert np.isfinite(np.delete(np.delete(found, 2, 0), 2, 1)).all()

    def test_of_ranks_is_spearmans_over_the_pairs(self) -> None:
        one, other = symmetric(8, 1).round(), symmetric(8, 2).round()  # with ties
        pairs = np.triu_indices(8, 1)
        found = correlation.agreement(one, other).rank_correlation
        assert found == pytest.approx(spearmanr(one[pairs], other[pairs]).statistic)

    def test_depends_neither_on_the_order_of_classes_nor_on_diagonal_and_scale(self) -> None:
        one, other = symmetric(8, 1), symmetric(8, 2)
        order = np.random.default_rng(3).permutation(8)
        renamed = [matrix[np.ix_(order, order)] for matrix in (one, other)]
        found = correlation.agreement(one, other)
        again = correlation.agreement(*renamed)
        assert again.rank_correlation == pytest.approx(found.rank_correlation)
        # Other permutations are drawn of them: the p-values agree as Monte Carlo does.
        assert again.p_value == pytest.approx(found.p_value, abs=0.03)
        assert correlation.agreement(np.exp(one) + 9 * np.eye(8), other) == found

    @pytest.mark.parametrize("seed", range(3))
    def test_the_p_value_is_the_share_of_all_permutations(self, seed: int) -> None:
        one, other = symmetric(5, seed), symmetric(5, seed + 10)
        pairs = np.triu_indices(5, 1)
        found = correlation.agreement(one, other)
        every = [
            spearmanr(one[pairs], other[np.ix_(order, order)][pairs]).statistic
            for order in itertools.permutations(range(5))
        ]
        share = np.mean(np.array(every) >= found.rank_correlation - 1e-9)
        assert found.p_value == pytest.approx(share, abs=0.02)

    def test_equal_matrices_agree_as_well_as_can_be(self) -> None:
        one = symmetric(8, 1)
        found = correlation.agreement(one, one)
        assert found.rank_correlation == pytest.approx(1)
        assert found.p_value < 0.001
        assert correlation.agreement(one, -one).p_value > 0.99

    def test_without_confusions_there_is_no_rank_correlation(self) -> None:
        assert np.isnan(correlation.agreement(symmetric(8, 1), np.zeros((8, 8)))).all()
        assert np.isnan(correlation.agreement(np.eye(1), np.eye(1))).all()


def subject_of(prior: np.ndarray, logits: np.ndarray) -> Any:
    heads = Heads(jnp.asarray(logits, jnp.float32), jnp.asarray(prior, jnp.float32))
    method = METHODS["dropmax"]
    return SimpleNamespace(
        heads=heads, temperature=0.1, run=SimpleNamespace(setup=SimpleNamespace(method=method))
    )


class TestScatter:
    def test_masks_that_retain_all_give_the_softmax(self) -> None:
        found = scatter.sample(subject_of(np.full((200, 6), 30.0), LOGITS), 7, 20)
        expected = np.exp(oracle.log_softmax(LOGITS[7]))
        np.testing.assert_allclose(found, np.broadcast_to(expected, (20, 6)), rtol=1e-4)

    def test_a_class_is_dropped_as_often_as_its_prior_says(self) -> None:
        prior = np.full((200, 6), 30.0)
        prior[:, 4] = np.log(0.3 / 0.7)
        found = scatter.sample(subject_of(prior, np.zeros((200, 6))), 3, 2000)
        # Retained or not, and at a temperature of 0.1 hardly anything between.
        assert np.mean(found[:, 4] > 1 / 12) == pytest.approx(0.3, abs=0.04)

    def test_the_masks_of_an_image_do_not_depend_on_the_others(self) -> None:
        subject = subject_of(PRIOR, LOGITS)
        found = scatter.sample(subject, 7, 5)
        np.testing.assert_array_equal(found, scatter.sample(subject, 7, 5))
        other = subject_of(np.where(np.arange(200)[:, None] == 7, PRIOR, 0), LOGITS)
        np.testing.assert_array_equal(found, scatter.sample(other, 7, 5))
        # Another image has other masks, not these on its own heads.
        same = subject_of(np.zeros((200, 6)), np.broadcast_to(LOGITS[7], (200, 6)))
        assert not np.allclose(scatter.sample(same, 7, 5), scatter.sample(same, 8, 5))

    def test_sure_predictions_lie_in_corners_and_even_ones_in_the_middle(self) -> None:
        sure = scatter.of_two_and_rest(np.eye(6), 1, 4)
        assert sure[1].tolist() == [1, 0, 0]
        assert sure[4].tolist() == [0, 1, 0]
        assert sure[0].tolist() == sure[5].tolist() == [0, 0, 1]
        corners = scatter.in_triangle(np.eye(3))
        sides = [np.linalg.norm(one - other) for one, other in itertools.combinations(corners, 2)]
        np.testing.assert_allclose(sides, 1)
        middle = scatter.in_triangle(scatter.of_two_and_rest(np.full(3, 1 / 3), 0, 1))
        np.testing.assert_allclose(middle, corners.mean(0))


@pytest.fixture(scope="module")
def toy() -> boundaries.Toy:
    return boundaries.train(METHODS["dropmax"], {"temperature": 0.1}, side=12)


class TestBoundaries:
    def test_predictions_are_distributions(self, toy: boundaries.Toy) -> None:
        assert toy.single.shape == (4, 12, 12, 5)
        for probs in (toy.single, toy.average, toy.mean_mask):
            np.testing.assert_allclose(probs.sum(-1), 1, rtol=1e-4)

    def test_it_has_learnt_its_classes(self, toy: boundaries.Toy) -> None:
        """Around a class's place, the grid says that class."""
        side = np.linspace(-3.2, 3.2, 12)
        for number in range(5):
            x, y = toy.points[toy.labels == number].mean(0)
            place = np.abs(side - 1.5 * y).argmin(), np.abs(side - 1.5 * x).argmin()
            assert toy.mean_mask[place].argmax() == number
            assert toy.average[place].argmax() == number

    def test_masks_disagree_and_their_average_is_milder(self, toy: boundaries.Toy) -> None:
        predicted = toy.single.argmax(-1)
        assert all(np.any(one != other) for one, other in itertools.combinations(predicted, 2))
        assert toy.average.max(-1).mean() < toy.single.max(-1).mean()

    def test_is_the_same_again(self, toy: boundaries.Toy) -> None:
        again = boundaries.train(METHODS["dropmax"], {"temperature": 0.1}, side=12)
        np.testing.assert_array_equal(again.average, toy.average)


def test_curves_skip_the_epochs_that_were_not_recorded(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = [{"epoch": number, "train_loss": 1.0} for number in range(1, 9)]
    for number in (1, 2, 4, 8):
        entries[number - 1] |= {"train_nll": [0.1, 0.3], "test_nll": [1 / number, 3 / number]}
    subject: Any = SimpleNamespace(
        history=json.loads(json.dumps(entries)),
        method="dropmax",
        data=SimpleNamespace(train=SimpleNamespace(labels=np.zeros(5))),
    )
    drawn = cross_entropy.draw([subject])
    assert not isinstance(drawn, str)
    (axes,) = drawn.figure.axes
    train, test = axes.lines
    assert np.asarray(train.get_xdata()).tolist() == [1, 2, 4, 8]
    assert np.asarray(test.get_xdata()).tolist() == [1, 2, 4, 8]
    np.testing.assert_allclose(np.asarray(test.get_ydata()), [2, 1, 0.5, 0.25])
    np.testing.assert_allclose(np.asarray(train.get_ydata()), 0.2)
    subject.history = []
    assert "train with --record_test" in cross_entropy.draw([subject])


def test_markdown_shows_names_as_they_are() -> None:
    assert in_markdown("<b>|*x_1*") == r"\<b\>\|\*x\_1\*"
    assert "\n" not in in_markdown("a\nb")
