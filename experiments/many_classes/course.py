"""What the heads of DropMax do in the course of training, and a picture of it."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dropmax_jax import posterior_logits
from experiments.data import datasets
from experiments.data.datasets import Dataset
from experiments.many_classes.steps import params_at
from experiments.many_classes.tasks import Task, config_of
from experiments.reports.drawing import Figure, in_own_style, save
from experiments.reports.tables import line, to_csv
from experiments.runtime.files import write_text
from experiments.train.steps.setup import Setup, make_setup
from experiments.train.steps.training import to_pixels

MODELS = ("dropmax", "dropmax_balanced")
_NUM_POINTS = 40
_NUM_EXAMPLES = 1000
_ROWS = {
    "posterior": "q",
    "prior": r"$\rho$",
    "label": "r",
    "retained": "other classes\nretained",
    "gradient_norm": "gradient by the\nclass logits, norm",
    "error_percent": "training error (%)",
}
_COLUMNS = {
    "posterior_target": "q of the target",
    "posterior_others": "q of others",
    "prior_target": "rho of the target",
    "prior_others": "rho of others",
    "retained": "others retained",
    "gradient_norm": "gradient",
    "error_percent": "training error, %",
}


def records(task: Task, data: Dataset) -> list[dict[str, Any]]:
    """How one model of each of `MODELS` changes, at about forty steps of its training.

    Returns:
        Dicts of `task`, `num_classes`, `method`, `step`, and of means over the first thousand
        training examples. `posterior`, `prior` and `label` are q, ρ and r, of the target and of
        the mean other class; `retained` is the sum of q over the other classes; `gradient_norm`
        the Euclidean norm of an example's gradient by its class logits.
    """
    found = []
    for model in MODELS:
        config = datasets.configured(config_of(task, 1, 1, model=model), data)
        setup = make_setup(config, len(data.train.labels))
        num_steps = setup.steps_per_epoch * config.num_epochs
        stops = np.unique(np.geomspace(1, num_steps, _NUM_POINTS).round().astype(int))
        images, labels = (jnp.asarray(part[:_NUM_EXAMPLES]) for part in data.train)
        for step, params in params_at(setup, data.train, 1, [0, *stops.tolist()]):
            first = jax.tree.map(lambda leaf: leaf[0], params)
            measured = _measure(setup, first, jax.random.key(step), images, labels)
            found.append(
                {
                    "task": data.name,
                    "num_classes": len(data.class_names),
                    "method": model,
                    "step": step,
                    **{name: float(value) for name, value in measured.items()},
                }
            )
    return found


@functools.partial(jax.jit, static_argnums=0)
def _measure(
    setup: Setup, params: Any, key: Array, images: Array, labels: Array
) -> Mapping[str, Array]:
    heads: Any = setup.network.apply(params, to_pixels(images), None)
    is_target = labels[:, None] == jnp.arange(heads.logits.shape[-1])
    probabilities = {
        "posterior": jax.nn.sigmoid(posterior_logits(heads)),
        "prior": jax.nn.sigmoid(heads.prior_logits),
        "label": jax.nn.sigmoid(heads.label_logits),
    }
    found = {}
    for name, values in probabilities.items():
        found[f"{name}_target"] = jnp.mean(values, where=is_target)
        found[f"{name}_others"] = jnp.mean(values, where=~is_target)
    others = jnp.sum(probabilities["posterior"], axis=-1, where=~is_target)

    def loss(logits: Array) -> Array:
        return jnp.sum(setup.method.loss(key, heads._replace(logits=logits), labels))

    gradient = jax.grad(loss)(heads.logits)
    is_wrong = jnp.argmax(setup.method.log_probs(heads), axis=-1) != labels
    return {
        **found,
        "retained": jnp.mean(others),
        "gradient_norm": jnp.mean(jnp.linalg.norm(gradient, axis=-1)),
        "error_percent": 100 * jnp.mean(is_wrong),
    }


def write(found: Sequence[Mapping[str, Any]], savedir: Path) -> None:
    """Writes what `records` gave of one or several tasks: `course.csv`, `.png` and `.md`.

    The Markdown is a table of the steps at which a tenth of the training is done, and all.
    """
    write_text(savedir / "course.csv", to_csv(found))
    _draw(found, savedir / "course.png")
    columns = ("classes", "method", "step", *_COLUMNS.values())
    lines = [line(columns), line(["---"] * len(columns))]
    for (_, model), group in itertools.groupby(found, lambda r: (r["num_classes"], r["method"])):
        mine = list(group)
        last = mine[-1]["step"]
        early = min(mine, key=lambda record: abs(record["step"] - last / 10))
        for record in (early, mine[-1]):
            values = (f"{record[name]:.3g}" for name in _COLUMNS)
            lines.append(line([str(record["num_classes"]), model, str(record["step"]), *values]))
    write_text(savedir / "course.md", "\n".join(lines) + "\n")


@in_own_style
def _draw(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws a column of panels for each task."""
    tasks = list(dict.fromkeys(record["task"] for record in found))
    size = (1.5 + 3.6 * len(tasks), 2.1 * len(_ROWS))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(_ROWS), len(tasks), squeeze=False, sharex="col", sharey="row")
    for column, task in enumerate(tasks):
        for row, (name, title) in enumerate(_ROWS.items()):
            axes = panels[row, column]
            for model, color in zip(MODELS, ("tab:blue", "tab:orange"), strict=True):
                mine = [r for r in found if (r["task"], r["method"]) == (task, model) and r["step"]]
                steps = [record["step"] for record in mine]
                if name in mine[0]:
                    axes.plot(steps, [record[name] for record in mine], color=color, label=model)
                    continue
                for suffix, style in (("target", "-"), ("others", "--")):
                    values = [record[f"{name}_{suffix}"] for record in mine]
                    label = f"{model}, {'the target' if suffix == 'target' else 'other classes'}"
                    axes.plot(steps, values, style, color=color, label=label)
            axes.set_xscale("log")
            axes.grid(alpha=0.3)
            if name in {"retained", "gradient_norm"}:
                axes.set_yscale("log")
            if not column:
                axes.set_ylabel(title)
        classes = next(record["num_classes"] for record in found if record["task"] == task)
        panels[0, column].set(title=f"{classes} classes")
        panels[-1, column].set(xlabel="step")
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(MODELS)
    )
    save(figure, path)
