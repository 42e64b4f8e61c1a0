"""The correlation of classes through ρ, beside the confusions of classes.

The pairs of classes are not independent, for each class is in many of them. So the p-value is of a
permutation test of the classes: Mantel, The Detection of Disease Clustering and a Generalized
Regression Approach, 1967.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata

from experiments.figures.subject import Drawn, Subject, in_markdown
from experiments.reports.class_matrices import (
    INCHES_OF_CLASS,
    are_long,
    chosen_classes,
    class_means,
    confusion_counts,
    draw_off_diagonal,
    row_percent,
)
from experiments.reports.drawing import OKABE_ITO, Figure
from experiments.reports.tables import shortened

_PERMUTATIONS = 9999
_SEED = 0
_NAMED = 6


class Agreement(NamedTuple):
    """How well two symmetric matrices of classes agree off their diagonals.

    Attributes:
        rank_correlation: Spearman's, over the pairs of classes; NaN if a matrix has one value.
        p_value: One-sided, of a permutation of the classes of one matrix agreeing as well.
    """

    rank_correlation: float
    p_value: float


def correlations(retained: np.ndarray) -> np.ndarray:
    """Pearson's correlation of the retain probabilities of two classes over images, `[K, K]`.

    Args:
        retained: `[N, K]`.
    """
    centred = retained - retained.mean(0)
    lengths = np.sqrt(np.square(centred).sum(0))
    products = np.outer(lengths, lengths)
    blank = np.full(products.shape, np.nan)
    return np.divide(centred.T @ centred, products, out=blank, where=products > 0)


def agreement(one: np.ndarray, other: np.ndarray) -> Agreement:
    """Compares two symmetric matrices `[K, K]`, whose diagonals do not count."""
    pairs = np.triu_indices(len(one), 1)
    if not all(len(matrix[pairs]) and np.ptp(matrix[pairs]) for matrix in (one, other)):
        return Agreement(float("nan"), float("nan"))
    ranks, of_pairs = _standard_ranks(one[pairs]), np.zeros(other.shape)
    of_pairs[pairs] = _standard_ranks(other[pairs])
    of_pairs += of_pairs.T

    def correlation(order: np.ndarray) -> float:
        return float(np.mean(ranks * of_pairs[order[pairs[0]], order[pairs[1]]]))

    found = correlation(np.arange(len(one)))
    rng = np.random.default_rng(_SEED)
    as_good = sum(
        # Permutations that leave the matrix as it is must not differ by rounding.
        correlation(rng.permutation(len(one))) >= found - 1e-12
        for _ in range(_PERMUTATIONS)
    )
    return Agreement(found, (1 + as_good) / (1 + _PERMUTATIONS))


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks with mean 0 and variance 1."""
    ranks = np.asarray(rankdata(values), float)
    standard: np.ndarray = (ranks - ranks.mean()) / ranks.std()
    return standard


def draw(subject: Subject) -> Drawn | str:
    """Draws both matrices, and each pair of classes as a point."""
    if subject.heads.prior_logits is None:
        return f"{subject.method} has no retain probabilities"
    labels = subject.data.test.labels
    retained = expit(np.asarray(subject.heads.prior_logits, float))
    confusions = confusion_counts(labels, subject.log_probs[0].argmax(-1), retained.shape[-1])
    percent, through = row_percent(confusions), correlations(retained)
    np.fill_diagonal(through, np.nan)
    both_ways = (percent + percent.T) / 2
    # A class without test images is in no pair.
    there = np.ix_(*2 * [np.bincount(labels, minlength=len(percent)) > 0])
    found = agreement(through[there], both_ways[there])
    classes = chosen_classes(confusions, class_means(labels, retained))
    names = [shortened(name) for name in subject.class_names]
    labels_shown = [names[number] for number in classes]
    side = max(3.3, INCHES_OF_CLASS * len(classes)) + are_long(labels_shown)
    figure = Figure(figsize=(3 * side + 1.4, side + 0.9), layout="constrained")
    if len(classes) < len(names):
        figure.suptitle(
            f"matrices: {len(classes)} of {len(names)} classes, those most often confused"
        )
    left, middle, right = figure.subplots(1, 3)
    rows = np.ix_(classes, classes)
    draw_off_diagonal(left, through[rows], labels_shown, digits=2)
    draw_off_diagonal(middle, percent[rows], labels_shown, digits=0, log=True)
    left.set(title=r"correlation of $\rho$", xlabel="class", ylabel="class")
    middle.set(title="% of a class predicted as", xlabel="predicted class", ylabel="true class")
    _draw_pairs(right, through, both_ways, names)
    most = _most_confused(both_ways, 3)
    pairs = ", ".join(
        f"{in_markdown(names[one])} and {in_markdown(names[other])} "
        f"({both_ways[one, other]:.1f} %, {through[one, other]:+.2f})"
        for one, other in most
    )
    return Drawn(
        figure,
        "Left: the correlation, over the test images, of the probabilities with which the model "
        "retains two classes. Middle: how often it takes a class for another; white is never. "
        "Right: each point is a pair of classes, with the mean of its two confusions. Spearman's "
        f"rank correlation over the pairs is {found.rank_correlation:.2f}, p = "
        f"{found.p_value:.2g} (one-sided Mantel test, {_PERMUTATIONS:,} permutations of the "
        f"classes). The pairs most often confused, with their correlation: {pairs}.",
    )


def _most_confused(both_ways: np.ndarray, count: int) -> list[tuple[int, int]]:
    rows, columns = np.triu_indices(len(both_ways), 1)
    order = np.argsort(-np.nan_to_num(both_ways[rows, columns]), kind="stable")[:count]
    return [(int(rows[pair]), int(columns[pair])) for pair in order]


def _draw_pairs(axes: Any, through: np.ndarray, both_ways: np.ndarray, names: list[str]) -> None:
    rows, columns = np.triu_indices(len(names), 1)
    size = 18 if len(names) <= 30 else 5
    x, y = through[rows, columns], both_ways[rows, columns]
    axes.scatter(x, y, size, color=OKABE_ITO["blue"], alpha=0.7, lw=0)
    for one, other in _most_confused(both_ways, _NAMED):
        text = f"{names[one]}, {names[other]}"
        place = through[one, other], both_ways[one, other]
        # To the left of points in the right half, which leaves them room.
        is_right = place[0] > (np.nanmin(x) + np.nanmax(x)) / 2
        axes.annotate(
            text,
            place,
            (-5 if is_right else 5, 3),
            textcoords="offset points",
            ha="right" if is_right else "left",
            fontsize=8,
            parse_math=False,
        )
    axes.set(
        title="pairs of classes",
        xlabel=r"correlation of $\rho$",
        ylabel="confused, % (mean of both ways)",
    )
    axes.margins(y=0.08)
    axes.locator_params(axis="x", nbins=4)
    axes.set_box_aspect(1)
    axes.grid(alpha=0.3)
