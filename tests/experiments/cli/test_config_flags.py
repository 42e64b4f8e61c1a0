"""The flags that set fields of a configuration."""

from collections.abc import Callable

import pytest

from experiments import images, mnist
from experiments.cli.command import Flags
from experiments.cli.config_flags import ConfigFlags


@pytest.mark.parametrize("define", [mnist.config_flags, images.config_flags])
def test_all_training_examples_can_be_asked_for(define: Callable[[Flags], ConfigFlags]) -> None:
    own = Flags()
    flags = define(own)
    own.values(["command", "--dataset=mnist", "--train_per_class=all"])
    assert flags.config().train_per_class is None
