"""What an experiment of calibration has left in its folder."""

import json
from pathlib import Path

from experiments.calibration.measures import Measurement

SAMPLED = {"mc_dropout", "dropmax_monte_carlo"}
NAMES = ("clean", "background_random")


def measurement(folder: Path, method: str) -> Measurement:
    for path in folder.glob("*/measurements.json"):
        methods = json.loads(path.read_text())["methods"]
        if method in methods:
            return Measurement.from_json(methods[method])
    raise AssertionError(f"{folder} has no {method}")
