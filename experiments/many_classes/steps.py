"""Training step by step, to look at what happens on the way."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax.numpy as jnp

from experiments.data.split import Split
from experiments.runtime import devices
from experiments.train.steps import feeds, programs
from experiments.train.steps.setup import Setup


def params_at(
    setup: Setup, train: Split, num_seeds: int, stops: Iterable[int]
) -> Iterator[tuple[int, Any]]:
    """Trains models of seeds from 0 on; gives their parameters after some of the steps.

    Args:
        setup: What to train.
        train: What to train it on.
        num_seeds: Models to train.
        stops: Numbers of steps, ascending.

    Yields:
        A number of steps, and the parameters after as many: leaves `[seeds, ...]`, NumPy.
    """
    seeds = jnp.arange(num_seeds)
    state = devices.replicate(programs.initial_states(setup, seeds))
    feed = feeds.make_feed(setup, train, seeds)
    step = 0
    for stop in stops:
        while step < stop:
            end = min(stop, (step // setup.steps_per_epoch + 1) * setup.steps_per_epoch)
            end = min(end, step + feed.most_steps)
            state = feed.program(state, seeds, step, end, *feed.inputs(step))
            step = end
        yield step, devices.unreplicate(state.params)
