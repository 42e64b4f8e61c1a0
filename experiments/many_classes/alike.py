"""Classes that are drawn alike, such as Latin and Greek A: their probability is to be shared."""

import functools
from collections.abc import Sequence

import numpy as np

from experiments.data import glyphs


@functools.cache
def groups(dataset: str, class_names: tuple[str, ...]) -> list[list[int]]:
    """The groups of labels whose images do not differ, but for chance."""
    return glyphs.drawn_alike(class_names) if dataset.startswith("glyphs") else []


def measure(
    log_probs: np.ndarray, labels: np.ndarray, doubles: Sequence[Sequence[int]]
) -> dict[str, list[float]]:
    """How a model shares probability among classes of which it cannot tell which is right.

    Args:
        log_probs: `[seeds, N, K]`.
        labels: Int `[N]`.
        doubles: Groups of labels. Of the images, those count whose label is in a group.

    Returns:
        A value per seed each, where g classes are in an image's group: `group_error_percent`,
        predictions outside of the group; `largest_share_percent`, the largest of the probabilities
        of the group by their sum; `fair_share_percent`, 1/g; `excess_nats`, the cross-entropy of
        the shares less log g.
    """
    errors, shares, fair, excess = [], [], [], []
    best = np.argmax(log_probs, axis=-1)
    for group in doubles:
        own = np.isin(labels, group)
        if not own.any():
            continue
        of_group = log_probs[:, own][..., group]
        log_shares = of_group - np.logaddexp.reduce(of_group, axis=-1, keepdims=True)
        place = np.searchsorted(group, labels[own])
        log_share = np.take_along_axis(log_shares, place[None, :, None], axis=-1)[..., 0]
        errors.append(~np.isin(best[:, own], group))
        shares.append(np.exp(log_shares.max(-1)))
        fair.append(np.full(log_share.shape, 1 / len(group)))
        excess.append(-log_share - np.log(len(group)))

    def mean(parts: list[np.ndarray], factor: float = 1.0) -> list[float]:
        means: list[float] = (factor * np.concatenate(parts, axis=-1).mean(-1)).tolist()
        return means

    return {
        "group_error_percent": mean(errors, 100),
        "largest_share_percent": mean(shares, 100),
        "fair_share_percent": mean(fair, 100),
        "excess_nats": mean(excess),
    }
