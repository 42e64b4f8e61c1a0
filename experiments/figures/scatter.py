"""How the predictions of an easy and of a difficult image scatter under masks that are drawn."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.figures.retained import easiest, entropies
from experiments.figures.subject import Drawn, Subject, in_markdown
from experiments.reports.drawing import OKABE_ITO, Figure
from experiments.reports.examples import draw_image
from experiments.reports.tables import shortened

NUM_MASKS = 500
_SEED = 0
_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])


def sample(subject: Subject, index: int, num_masks: int = NUM_MASKS) -> np.ndarray:
    """The probabilities `[num_masks, K]` of a test image under masks of the prior."""
    draw_samples = subject.run.setup.method.sample_log_probs
    assert draw_samples is not None
    # The key depends on the image, not on which images are drawn.
    key = jax.random.fold_in(jax.random.key(_SEED, impl="threefry2x32"), index)
    heads = jax.tree.map(lambda head: jnp.asarray(head[index]), subject.heads)
    log_probs = draw_samples(key, heads, num_masks, temperature=subject.temperature)
    return np.exp(np.asarray(log_probs, float))


def of_two_and_rest(probs: np.ndarray, first: int, second: int) -> np.ndarray:
    """The probabilities of two classes and of all others together, `[..., 3]`."""
    one, other = probs[..., first], probs[..., second]
    return np.stack([one, other, np.maximum(1 - one - other, 0)], -1)


def in_triangle(shares: np.ndarray) -> np.ndarray:
    """The points `[..., 2]` of three shares that add up to 1, `[..., 3]`."""
    points: np.ndarray = shares @ _CORNERS
    return points


def draw(subject: Subject) -> Drawn | str:
    """Draws a triangle of an easy image, and one of a difficult image."""
    if subject.run.setup.method.sample_log_probs is None:
        return f"{subject.method} draws no masks to predict"
    labels, entropy = subject.data.test.labels, entropies(subject.log_probs[0])
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    numbers = []
    for triangle, title, sign in zip(
        figure.subplots(1, 2), ("easy", "difficult"), (1, -1), strict=True
    ):
        index = int(easiest(sign * entropy, labels, 1)[0])
        triangle.set_title(f"{title} test image")
        picture = triangle.inset_axes((0, 0.5, 0.22, 0.3))
        name = subject.class_names[labels[index]]
        draw_image(picture, subject.data.test.images[index], subject.strokes)
        picture.set_title(f"right: {shortened(name)}", fontsize=9, parse_math=False)
        probs = sample(subject, index)
        mean_mask = np.exp(np.asarray(subject.log_probs[0, index], float))
        classes = np.argsort(-mean_mask, kind="stable")[:2]
        shares = _draw_triangle(triangle, subject, probs, mean_mask, classes)
        numbers.append(
            f"Under {100 * shares[0]:.0f} % of the masks, the {title} image is most probably "
            f"{in_markdown(subject.class_names[classes[0]])}, under {100 * shares[1]:.0f} % "
            f"{in_markdown(subject.class_names[classes[1]])} and under {100 * shares[2]:.0f} % "
            "another class."
        )
    handles, texts = triangle.get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=3, frameon=False)
    return Drawn(
        figure,
        f"Predictions under {NUM_MASKS} masks drawn from p(z\\|x), of the test image whose "
        "prediction has the least entropy and of the one with the most. A point's distances from "
        "the sides are the probabilities of the two classes that are most probable with the mean "
        "mask and of all other classes together; a point in a corner is a sure prediction. The "
        "star is the prediction with the mean mask, the cross the mean of the points. "
        f"{' '.join(numbers)}",
    )


def _draw_triangle(
    axes: Any, subject: Subject, probs: np.ndarray, mean_mask: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Draws the points; returns which share of the masks predicts each corner's classes."""
    first, second = map(int, classes)
    predicted = probs.argmax(-1)
    is_one = np.stack([predicted == first, predicted == second], -1).mean(0)
    shares = np.append(is_one, 1 - is_one.sum())
    axes.plot(*_CORNERS[[0, 1, 2, 0]].T, color="black", lw=0.8)
    for level in (0.25, 0.5, 0.75):
        for turn in range(3):
            ends = np.roll([[level, 1 - level, 0], [level, 0, 1 - level]], turn, axis=1)
            axes.plot(*in_triangle(ends).T, color="0.85", lw=0.6, zorder=0)
    points = in_triangle(of_two_and_rest(probs, first, second))
    blue = OKABE_ITO["blue"]
    axes.scatter(*points.T, 14, color=blue, alpha=0.25, lw=0, label="one mask", clip_on=False)
    style: dict[str, Any] = {"mec": "black", "ls": "", "clip_on": False, "zorder": 5}
    mean = in_triangle(of_two_and_rest(probs.mean(0), first, second))
    star = in_triangle(of_two_and_rest(mean_mask, first, second))
    axes.plot(*mean, "X", ms=10, color=OKABE_ITO["sky blue"], label="mean over masks", **style)
    axes.plot(*star, "*", ms=15, color=OKABE_ITO["orange"], label="mean mask", **style)
    names = [shortened(subject.class_names[number]) for number in (first, second)]
    for corner, name, share, (down, side) in zip(
        _CORNERS,
        [*names, "all others"],
        shares,
        ((-0.06, "top"), (-0.06, "top"), (0.05, "bottom")),
        strict=True,
    ):
        axes.text(
            corner[0],
            corner[1] + down,
            f"{name}\nfirst: {100 * share:.0f} % of masks",
            ha="center",
            va=side,
            fontsize=9,
            parse_math=False,
        )
    axes.set(xlim=(-0.1, 1.1), ylim=(-0.17, 1.06), aspect="equal")
    axes.set_axis_off()
    return shares
