"""One page that shows what was trained: `python -m experiments.report`."""
