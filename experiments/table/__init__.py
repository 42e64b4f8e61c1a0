"""The paper's table, tuned on validation data: `python -m experiments.table`."""
