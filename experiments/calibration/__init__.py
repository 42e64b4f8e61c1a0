"""Calibration and detection: `python -m experiments.calibration`."""
