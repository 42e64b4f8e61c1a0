"""The classes that a model retains of images it finds easy, and of images it finds difficult.

An image is the more difficult the higher the entropy of the model's prediction: the rule does not
look at the label. To show different ones, at most one image of each class is taken.
"""

from typing import Any

import numpy as np
from scipy.special import expit

from dropmax_jax import metrics, posterior_logits
from experiments.figures.subject import Drawn, Subject
from experiments.reports.drawing import OKABE_ITO, Figure
from experiments.reports.examples import classes_of_bars, draw_image, name_bars

_SHOWN = 4
_RIGHT: dict[str, Any] = {"color": OKABE_ITO["orange"], "hatch": "////", "edgecolor": "black"}
_OTHER: dict[str, Any] = {"color": OKABE_ITO["blue"], "edgecolor": "black"}

_PREDICTED: dict[str, Any] = {"marker": "D", "ls": "", "color": "white", "mec": "black", "ms": 4.5}


def entropies(log_probs: np.ndarray) -> np.ndarray:
    """The predictive entropies `[N]` of log-probabilities `[N, K]`, in nats."""
    return np.asarray(metrics.predictive_entropy(log_probs), float)


def easiest(entropy: np.ndarray, labels: np.ndarray, count: int = _SHOWN) -> np.ndarray:
    """The images of least entropy, the least first, and of each class one at most.

    Args:
        entropy: `[N]`. Negate it for the most difficult images.
        labels: `[N]`.
        count: How many images to find at most.

    Returns:
        Indices of images.
    """
    order = np.argsort(entropy, kind="stable")
    _, first = np.unique(labels[order], return_index=True)
    found: np.ndarray = order[np.sort(first)[:count]]
    return found


def posterior(heads: Any, labels: np.ndarray) -> np.ndarray:
    """q(z|x, y) `[N, K]` of heads and their labels; the target is always retained."""
    found = np.array(expit(np.asarray(posterior_logits(heads), float)))
    found[np.arange(len(labels)), labels] = 1
    return found


def others_retained(retained: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes beside the right one are retained, in expectation `[N]`."""
    found: np.ndarray = retained.sum(-1) - retained[np.arange(len(labels)), labels]
    return found


def draw(subject: Subject) -> Drawn | str:
    """Draws p(z|x) of easy and of difficult test images."""
    if subject.heads.prior_logits is None:
        return f"{subject.method} has no retain probabilities"
    labels, entropy = subject.data.test.labels, entropies(subject.log_probs[0])
    retained = expit(np.asarray(subject.heads.prior_logits, float))
    easy, hard = easiest(entropy, labels), easiest(-entropy, labels)
    figure = Figure(figsize=(10, 1.35 * len(easy) + 0.9), layout="constrained")
    sides: Any = figure.subfigures(1, 2, wspace=0.04)
    for side, title, shown in zip(sides, ("easy", "difficult"), (easy, hard), strict=True):
        side.suptitle(f"{title} test images")
        panels = side.subplots(len(shown), 2, width_ratios=(1, 3.4), squeeze=False)
        for index, (picture, bars) in zip(shown, panels, strict=True):
            _draw_picture(picture, subject, index, entropy[index])
            _draw_prior(bars, subject, index, retained[index])
    _add_legend(figure)
    tenth = max(1, len(labels) // 10)
    order = np.argsort(entropy, kind="stable")
    least, most = (
        others_retained(retained[part], labels[part]).mean()
        for part in (order[:tenth], order[-tenth:])
    )
    right_least, right_most = (
        np.mean(retained[part, labels[part]]) for part in (order[:tenth], order[-tenth:])
    )
    return Drawn(
        figure,
        "The probabilities p(z\\|x) with which the model retains each class, of the test images "
        "whose predictions have the least entropy (left, in nats) and the most (right), at most "
        "one image of each class. The hatched bar is the right class, and diamonds are the "
        "predicted probabilities. In the tenth of the test images with the least entropy, the "
        f"model retains the right class with a probability of {right_least:.2f} on average, and "
        f"{least:.2f} of the other classes; in the tenth with the most entropy, {right_most:.2f} "
        f"and {most:.2f}.",
    )


def draw_posterior(subject: Subject) -> Drawn | str:
    """Draws p(z|x) and q(z|x, y) of difficult test images side by side."""
    if subject.heads.prior_logits is None:
        return f"{subject.method} has no retain probabilities"
    if subject.heads.label_logits is None:
        return f"{subject.method} learns no posterior of its masks"
    labels, entropy = subject.data.test.labels, entropies(subject.log_probs[0])
    prior = expit(np.asarray(subject.heads.prior_logits, float))
    after = posterior(subject.heads, labels)
    hard = easiest(-entropy, labels)
    figure = Figure(figsize=(10, 1.35 * len(hard) + 0.9), layout="constrained")
    panels = figure.subplots(len(hard), 3, width_ratios=(1, 3, 3), squeeze=False)
    for index, (picture, before, given) in zip(hard, panels, strict=True):
        _draw_picture(picture, subject, index, entropy[index])
        _draw_prior(before, subject, index, prior[index])
        _draw_bars(given, subject, index, prior[index], after[index])
        given.set_ylabel("q(z|x,y)")
    panels[0, 1].set_title("before the label is known")
    panels[0, 2].set_title("given the label")
    _add_legend(figure)
    others_before, others_after = (
        others_retained(values, labels).mean() for values in (prior, after)
    )
    return Drawn(
        figure,
        "What the model retains of difficult test images, chosen by the entropy of their "
        "predictions: p(z\\|x), which it uses to predict, and the approximate posterior "
        "q(z\\|x,y), which it draws masks from in training and which knows the label. The hatched "
        "bar is the right class, which q always retains; diamonds are the predicted probabilities. "
        f"Over all test images, p retains {others_before:.2f} of the other classes on average and "
        f"q {others_after:.2f}.",
    )


def _draw_picture(axes: Any, subject: Subject, index: int, entropy: float) -> None:
    draw_image(axes, subject.data.test.images[index], subject.strokes)
    axes.set_title(f"entropy {abs(entropy):.2f}", fontsize=8, pad=2)


def _draw_prior(axes: Any, subject: Subject, index: int, retained: np.ndarray) -> None:
    classes = _draw_bars(axes, subject, index, retained, retained)
    axes.plot(range(len(classes)), np.exp(subject.log_probs[0, index])[classes], **_PREDICTED)
    axes.set_ylabel("p(z|x)")


def _draw_bars(
    axes: Any, subject: Subject, index: int, retained: np.ndarray, height: np.ndarray
) -> np.ndarray:
    """Draws bars of some height; returns which classes, chosen by what is likely and retained."""
    probs, true = np.exp(subject.log_probs[0, index]), int(subject.data.test.labels[index])
    classes = classes_of_bars(probs, retained, true)
    for place, number in enumerate(classes):
        axes.bar(place, height[number], 0.7, **(_RIGHT if number == true else _OTHER), lw=0.6)
    name_bars(axes, subject.class_names, classes, true)
    return classes


def _add_legend(figure: Figure) -> None:
    axes: Any = figure.add_subplot(frameon=False)
    axes.set_axis_off()
    handles = [
        axes.bar(0, 0, label="right class", **_RIGHT),
        axes.bar(0, 0, label="other classes", **_OTHER),
        axes.plot([], [], label="predicted probability", **_PREDICTED)[0],
    ]
    axes.remove()
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
