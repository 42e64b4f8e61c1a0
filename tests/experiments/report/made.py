"""Folders of runs that were never trained."""

import base64
import json
import os
from pathlib import Path
from typing import Any

from experiments.data.catalogue import row_of
from experiments.runtime import jax_settings
from experiments.runtime.files import write_json
from experiments.train.config import Config

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="4"/></svg>\n'


def config_of(model: str = "dropmax", **settings: Any) -> Config:
    """A configuration as a run has it, whose data are loaded."""
    given = {"dataset": "mnist", "data_fingerprint": "7b47", "jax_settings": jax_settings.DEFAULTS}
    row = row_of(settings.get("dataset", "mnist"))
    recipe = {**row.recipe, **given, **settings}
    return Config(model, **recipe)


def make_run(
    folder: Path, config: Config | None = None, error: float = 3.5, num_epochs: int | None = None
) -> Path:
    """Writes the files of a run, which is finished unless it has few epochs."""
    config = config or config_of(num_epochs=2)
    folder.mkdir(parents=True)
    write_json(folder / "config.json", config.to_json())
    done = config.num_epochs if num_epochs is None else num_epochs
    entries = [{"epoch": 1 + i, "validation_error_percent": 9.0 - i} for i in range(done)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    if num_epochs is None:
        write_json(folder / "summary.json", summary_of(config, error))
        (folder / "learning_curves.png").write_bytes(PNG)
    # Runs of one second have one date.
    for file in folder.iterdir():
        os.utime(file, (1_700_000_000, 1_700_000_000))
    return folder


def summary_of(config: Config, error: float) -> dict[str, Any]:
    """What `summary.json` of a run holds; the errors of its seeds are a point apart."""
    spread = [error + seed - config.seeds[0] for seed in config.seeds]
    return {
        "model": config.model,
        "network": config.network,
        "dataset": config.dataset,
        "num_train": 1000,
        "num_test": 10000,
        "seeds": list(config.seeds),
        "test_error_percent": spread,
        "test_nll": [value / 10 for value in spread],
        "test_ece_percent": [value / 5 for value in spread],
        "test_brier": [value / 100 for value in spread],
        "train_seconds": 10 * error,
        "compile_seconds": 5.0,
        "steps_per_second": 70.0,
        "device": "1 x cpu",
        "versions": {"python": "3.13.0", "jax": "0.12.0"},
    }
