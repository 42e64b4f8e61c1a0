"""A run: its configuration, training, checkpoints and evaluation."""
