"""Images and labels: one file for each source, and `datasets`, which chooses among them."""

from experiments.data.datasets import (
    DATASETS,
    Dataset,
    fingerprint,
    load,
    load_aloud,
    load_for,
)
from experiments.data.split import Split

__all__ = ["DATASETS", "Dataset", "Split", "fingerprint", "load", "load_aloud", "load_for"]
