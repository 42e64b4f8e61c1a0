"""Image classification with DropMax and its baselines.

Commands, each run by `python -m experiments.NAME`:

- `mnist`: trains and tests a model on MNIST; `images`: on images of any kind.
- `table`: the paper's table. `calibration`: calibration and detection of errors.
  `many_classes`: what helps as classes are added.
- `masks`: draws the classes a model retains. `figures`: draws the paper's figures.
- `predict`: predicts image files. `sketchpad`: writes a page to draw on, with a model inside.
- `report`: one page of all runs in a folder.

Folders:

- `data`: images and labels. `networks`: LeNet, CNN and residual networks.
- `train`: a run, from configuration to evaluation. `trained`: loads what a run trained.
- `reports`: tables, plots, statistics. `cli`: flags, errors, signals.
- `runtime`: devices, processes, files, JAX's settings.
"""
