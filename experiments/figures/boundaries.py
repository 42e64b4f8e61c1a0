"""Decision boundaries of a small problem in the plane, under single masks and their average.

The command trains the model itself, in seconds: a layer of 32 units on five clouds of points that
overlap, with the loss of the run's method.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from dropmax_jax import Heads, Method
from experiments.figures.subject import Drawn, Subject
from experiments.reports.drawing import OKABE_ITO, Figure

NUM_CLASSES = 5
NUM_MASKS = 200
_SEED = 0
_PER_CLASS = 200
_DRAWN = 25
_WIDTH = 32
_STEPS = 500
_SINGLE = 4
_LIMIT = 3.2
_SIDE = 120
_SHADES = 4
# Grey, which stays apart from the others when all are pale.
_COLORS = [*(OKABE_ITO[name] for name in ("blue", "orange", "green", "purple")), "#555555"]
_MARKERS = ("o", "s", "^", "D", "v")


class Toy(NamedTuple):
    """The points, and what the trained model predicts on a grid of the plane.

    Attributes:
        points: `[N, 2]`.
        labels: `[N]`.
        single: Probabilities under one mask each, `[masks, G, G, K]`.
        average: The mean over `NUM_MASKS` masks, of which these are the first, `[G, G, K]`.
        mean_mask: With the mean of the mask, `[G, G, K]`.
    """

    points: np.ndarray
    labels: np.ndarray
    single: np.ndarray
    average: np.ndarray
    mean_mask: np.ndarray


def train(method: Method, hyperparameters: dict[str, float], side: int = _SIDE) -> Toy:
    """Trains the model and predicts a grid of `side` points a side."""
    keys = jax.random.split(jax.random.key(_SEED, impl="threefry2x32"), 4)
    points, labels = clouds(keys[0])
    params = _trained(method, tuple(hyperparameters.items()), keys[1], keys[2], points, labels)
    axis = jnp.linspace(-_LIMIT, _LIMIT, side)
    grid = jnp.stack(jnp.meshgrid(axis, axis), -1).reshape(-1, 2)
    heads = _heads(method, params, grid)
    temperature = (method.hyperparameters | hyperparameters)["temperature"]

    # One key for all points: a mask is then one draw of noise over the whole plane, and only the
    # retain probabilities change it from place to place.
    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def log_probs(key: Array, heads: Heads) -> Array:
        assert method.sample_log_probs is not None
        return method.sample_log_probs(key, heads, NUM_MASKS, temperature=temperature)

    sampled = np.exp(np.asarray(log_probs(keys[3], heads), float))
    shape = (side, side, NUM_CLASSES)
    single = np.moveaxis(sampled[:, :_SINGLE], 1, 0).reshape(_SINGLE, *shape)
    average = sampled.mean(1).reshape(shape)
    mean_mask = np.exp(np.asarray(method.log_probs(heads), float)).reshape(shape)
    return Toy(np.asarray(points), np.asarray(labels), single, average, mean_mask)


def clouds(key: Array) -> tuple[Array, Array]:
    """Points `[N, 2]` around five places on a circle, and their classes."""
    labels = jnp.repeat(jnp.arange(NUM_CLASSES), _PER_CLASS)
    angles = 2 * jnp.pi * labels / NUM_CLASSES + jnp.pi / 2
    places = 1.4 * jnp.stack([jnp.cos(angles), jnp.sin(angles)], -1)
    return places + 0.7 * jax.random.normal(key, places.shape), labels


def _heads(method: Method, params: Any, points: Array) -> Heads:
    hidden = jnp.tanh(points @ params["kernel"] + params["bias"])
    outputs = hidden @ params["out"] + params["out_bias"]
    parts = jnp.split(outputs, len(method.heads), axis=-1)
    return Heads(**dict(zip(method.heads, parts, strict=True)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _trained(
    method: Method,
    hyperparameters: tuple[tuple[str, float], ...],
    initial: Array,
    noise: Array,
    points: Array,
    labels: Array,
) -> Any:
    keys, width = jax.random.split(initial), len(method.heads) * NUM_CLASSES
    params = {
        "kernel": jax.random.normal(keys[0], (2, _WIDTH)),
        "bias": jnp.zeros(_WIDTH),
        "out": jax.random.normal(keys[1], (_WIDTH, width)) / jnp.sqrt(_WIDTH),
        "out_bias": jnp.zeros(width),
    }
    optimizer = optax.adam(1e-2)

    def step(carry: Any, number: Array) -> tuple[Any, None]:
        params, state = carry

        def loss(params: Any) -> Array:
            key, heads = jax.random.fold_in(noise, number), _heads(method, params, points)
            return method.loss(key, heads, labels, **dict(hyperparameters)).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(_STEPS))
    return params


def draw(subject: Subject) -> Drawn | str:
    """Draws the plane under four masks, their average, and the mean mask."""
    method = subject.run.setup.method
    if method.sample_log_probs is None:
        return f"{subject.method} draws no masks to predict"
    toy = train(method, dict(subject.run.config.hyperparameters))
    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    titles = [
        *(f"mask {number + 1}" for number in range(_SINGLE)),
        f"average of {NUM_MASKS} masks",
        "mean mask",
    ]
    for axes, title, probs in zip(
        panels, titles, [*toy.single, toy.average, toy.mean_mask], strict=True
    ):
        _draw_plane(axes, probs, toy)
        axes.set_title(title)
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=NUM_CLASSES, frameon=False)
    final = toy.mean_mask.argmax(-1)
    differs = [100 * np.mean(probs.argmax(-1) != final) for probs in toy.single]
    average = 100 * np.mean(toy.average.argmax(-1) != final)
    return Drawn(
        figure,
        f"A toy, which this command trains with the loss of `{subject.method}`: a layer of "
        f"{_WIDTH} units on {_PER_CLASS} points of each of {NUM_CLASSES} classes that overlap, for "
        f"{_STEPS:,} steps of Adam. The ground has the colour of the predicted class, paler where "
        "its probability is lower. A mask is one draw of noise for the whole plane. Single masks "
        "drop classes here and there and leave their ground to neighbours: they predict another "
        f"class than the mean mask on {min(differs):.0f} to {max(differs):.0f} % of the plane. The "
        f"average of the masks differs from it on {average:.1f} %.",
    )


def _draw_plane(axes: Any, probs: np.ndarray, toy: Toy) -> None:
    colors = np.array([_rgb(color) for color in _COLORS])
    predicted, sure = probs.argmax(-1), probs.max(-1)[..., None]
    # Few shades, which can be told apart.
    ground = 1 - 0.5 * np.ceil(_SHADES * sure) / _SHADES * (1 - colors[predicted])
    extent = (-_LIMIT, _LIMIT, -_LIMIT, _LIMIT)
    axes.imshow(ground, origin="lower", extent=extent, interpolation="nearest")
    side = np.linspace(-_LIMIT, _LIMIT, len(probs))
    for number in range(NUM_CLASSES):
        inside = (predicted == number).astype(float)
        if 0 < inside.mean() < 1:
            axes.contour(side, side, inside, levels=[0.5], colors="black", linewidths=0.8)
        own = toy.points[toy.labels == number][:_DRAWN]
        axes.plot(
            *own.T,
            _MARKERS[number],
            color=_COLORS[number],
            mec="black",
            mew=0.4,
            ms=3,
            label=f"class {number + 1}",
        )
    axes.set(xlim=(-_LIMIT, _LIMIT), ylim=(-_LIMIT, _LIMIT), xticks=(), yticks=(), aspect="equal")


def _rgb(color: str) -> list[float]:
    return [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
