"""Predicts classes of image files: `python -m experiments.predict --run=results/dropmax IMAGE...`.

An IMAGE is a PNG or JPEG file, such as a photo of a digit on paper, or an IDX or NPY file of
images. For a model of digits or letters, the command brings pictures into MNIST's form, a light
digit on a dark ground in 28x28 pixels, and leaves those alone that have it. For other models it
crops pictures to their middle and scales them to the size of the images that the model was trained
on, grey or in colour as these were. Of several seeds it gives the mean probabilities.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import expit

from experiments.cli import command, run_flags
from experiments.cli.errors import UserError, printable
from experiments.data.catalogue import row_of
from experiments.data.forms import photos
from experiments.data.forms.framing import framed
from experiments.data.readers import pictures
from experiments.reports.tables import shortened
from experiments.train.config import Config, check_is_of_images, read_config_of_run

if TYPE_CHECKING:
    from experiments.trained import TrainedRun

FLAGS = command.Flags(takes="IMAGE")
_folder = run_flags.define(FLAGS, "run")
_RAW = FLAGS.switch("raw", "predict images of the model's size, such as 28x28, just as they are")
_JSON = FLAGS.switch("json", "print JSON, an object for each image, instead of a table")

_MOST_CLASSES = 10
# Longer names are written below each other.
_LONGEST_CELL = 5


class _Image(NamedTuple):
    """A picture, in the form of the run's images."""

    picture: pictures.Picture
    pixels: np.ndarray
    done: str


def main() -> None:
    """Runs the command."""
    folder = _folder()
    config = read_config_of_run(folder)
    check_is_of_images(config, "experiments.predict reads images")
    images = [image for file in FLAGS.arguments for image in _read(Path(file), config, _RAW.value)]
    command.set_up_jax()
    # Only now, so that --help and mistakes are answered at once.
    from experiments import trained

    run = trained.load(folder)
    about = _predict(run, np.stack([image.pixels for image in images]))
    found = [
        {"file": str(image.picture.file), "index": image.picture.place, "done": image.done, **one}
        for image, one in zip(images, about, strict=True)
    ]
    if _JSON.value:
        print(json.dumps(found, indent=2))
        return
    seeds = f"the mean over {len(run.seeds)} seeds" if len(run.seeds) > 1 else "one seed"
    print(f"{folder}: {run.config.model}, {run.config.network}, {seeds}")
    for image, one in zip(images, found, strict=True):
        print(f"\n{_table(image.picture.name, one, run.config.class_names)}")


def _read(file: Path, config: Config, raw: bool) -> Iterator[_Image]:
    """The pictures of a file, in the form of the run's images."""
    height, width = config.image_shape[:2]
    if row_of(config.dataset).strokes and config.image_shape == (photos.SIDE, photos.SIDE):
        for picture in pictures.read(file):
            if raw:
                _check_size(picture, height, width)
                yield _Image(picture, picture.grey, "left as it is")
                continue
            prepared = photos.prepare(picture.grey)
            if prepared is None:
                raise UserError(f"no digit found in {picture.name}")
            yield _Image(picture, *prepared)
        return
    for picture in pictures.read_any(file, None if raw else 2 * max(height, width)):
        if raw:
            _check_size(picture, height, width)
        yield _Image(picture, *framed(picture.pixels, config.image_shape))


def _check_size(picture: pictures.Picture, height: int, width: int) -> None:
    if picture.pixels.shape[:2] != (height, width):
        found = f"{picture.pixels.shape[1]}x{picture.pixels.shape[0]}"
        raise UserError(f"{picture.name} has {found} pixels: --raw needs {width}x{height}")


def _predict(run: "TrainedRun", images: np.ndarray) -> list[dict[str, Any]]:
    """What the run predicts of each image `[N, H, W]`, or with colours: the mean over its seeds."""
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
            "class_name": run.config.class_names[one.argmax()],
            "probabilities": one.tolist(),
            "retain_probabilities": retains,
            "predictive_entropy": float(entropy),
        }
        for one, retains, entropy in zip(probs, retained, entropies, strict=True)
    ]


def _table(name: str, about: dict[str, Any], class_names: Sequence[str]) -> str:
    """What is predicted of an image: all classes, or of many the most probable, in this order."""
    probs, retained = about["probabilities"], about["retain_probabilities"]
    classes = list(range(len(probs)))
    if len(classes) > _MOST_CLASSES:
        classes = sorted(classes, key=lambda number: -probs[number])[:_MOST_CLASSES]
    names = [shortened(printable(class_names[number])) for number in classes]
    rows = [("class", names), ("probability", [f"{probs[number]:.3f}" for number in classes])]
    if retained is not None:
        rows.append(("retained", [f"{retained[number]:.3f}" for number in classes]))
    lines = [
        f"{printable(name)}: {printable(about['class_name'])}, probability "
        f"{probs[about['class']]:.3f}, predictive entropy "
        f"{about['predictive_entropy']:.3f} nats",
        f"  {about['done']}",
    ]
    if max(map(len, names)) > _LONGEST_CELL:
        columns = [[title, *cells] for title, cells in rows]
        widest = max(map(len, columns[0]))
        for first, *others in zip(*columns, strict=True):
            lines.append(f"  {first:<{widest}}" + "".join(f"{cell:>13}" for cell in others))
    else:
        lines += [f"  {title:<11}" + "".join(f"{one:>7}" for one in cells) for title, cells in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    command.run(main, FLAGS, __doc__)
