"""Predicts digits in image files: `python -m experiments.predict --run=results/dropmax IMAGE...`.

An IMAGE is a PNG or JPEG file, such as a photo of a digit on paper, or an IDX or NPY file of
images. The command brings pictures into MNIST's form, a light digit on a dark ground in 28x28
pixels, and leaves those alone that have it. Of several seeds it gives the mean probabilities.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from experiments.cli import command
from experiments.cli.errors import UserError
from experiments.cli.kinds import PATH
from experiments.data import photos, pictures

if TYPE_CHECKING:
    from experiments.trained import TrainedRun

FLAGS = command.Flags(takes="IMAGE")
_RUN = FLAGS.define("run", "results/dropmax", "folder of a run of experiments.mnist", PATH)
_RAW = FLAGS.switch("raw", "predict images of 28x28 pixels just as they are")
_JSON = FLAGS.switch("json", "print JSON, an object for each image, instead of a table")


def main() -> None:
    """Runs the command."""
    folder = _RUN.value
    read = [picture for file in FLAGS.arguments for picture in pictures.read(Path(file))]
    prepared = [_prepared(picture, _RAW.value) for picture in read]
    command.set_up_jax()
    # Only now, so that --help and mistakes are answered at once.
    from experiments import trained

    run = trained.load(folder)
    about = _predict(run, np.stack([pixels for pixels, _ in prepared]))
    found = [
        {"file": str(picture.file), "index": picture.place, "done": done, **one}
        for picture, (_, done), one in zip(read, prepared, about, strict=True)
    ]
    if _JSON.value:
        print(json.dumps(found, indent=2))
        return
    seeds = f"the mean over {len(run.seeds)} seeds" if len(run.seeds) > 1 else "one seed"
    print(f"{folder}: {run.config.model}, {run.config.network}, {seeds}")
    for picture, one in zip(read, found, strict=True):
        print(f"\n{_table(picture.name, one)}")


def _prepared(picture: pictures.Picture, raw: bool) -> photos.Prepared:
    if raw:
        if picture.grey.shape != (photos.SIDE, photos.SIDE):
            height, width = picture.grey.shape
            raise UserError(f"{picture.name} has {width}x{height} pixels: --raw needs 28x28")
        return photos.Prepared(picture.grey, "left as it is")
    prepared = photos.prepare(picture.grey)
    if prepared is None:
        raise UserError(f"no digit found in {picture.name}")
    return prepared


def _predict(run: "TrainedRun", images: np.ndarray) -> list[dict[str, Any]]:
    """What the run predicts of each image `[N, 28, 28]`: the mean over its seeds."""
    from dropmax_jax import metrics

    log_probs = metrics.mean_log_probs(run.log_probs(images))
    probs = np.exp(np.asarray(log_probs, float))
    entropies = np.asarray(metrics.predictive_entropy(log_probs), float)
    retained: Sequence[Any] = [None] * len(images)
    if "prior_logits" in run.setup.method.heads:
        prior_logits = np.asarray(run.heads(images).prior_logits, float)
        retained = expit(prior_logits).mean(0).tolist()
    return [
        {
            "class": int(one.argmax()),
            "probabilities": one.tolist(),
            "retain_probabilities": retains,
            "predictive_entropy": float(entropy),
        }
        for one, retains, entropy in zip(probs, retained, entropies, strict=True)
    ]


def _table(name: str, about: dict[str, Any]) -> str:
    best = about["class"]
    lines = [
        f"{name}: {best}, probability {about['probabilities'][best]:.3f}, "
        f"predictive entropy {about['predictive_entropy']:.3f} nats",
        f"  {about['done']}",
        _row("class", [f"{number}" for number in range(len(about["probabilities"]))]),
        _row("probability", [f"{value:.3f}" for value in about["probabilities"]]),
    ]
    if about["retain_probabilities"] is not None:
        lines.append(_row("retained", [f"{value:.3f}" for value in about["retain_probabilities"]]))
    return "\n".join(lines)


def _row(name: str, cells: list[str]) -> str:
    return f"  {name:<11}" + "".join(f"{cell:>7}" for cell in cells)


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
