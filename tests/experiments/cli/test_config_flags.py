"""The flags that set fields of a configuration."""

from collections.abc import Callable
from pathlib import Path

import pytest
from absl.testing import flagsaver

from experiments import images, mnist
from experiments.cli.command import Flags
from experiments.cli.config_flags import ConfigFlags


@pytest.mark.parametrize("define", [mnist.config_flags, images.config_flags])
def test_all_training_examples_can_be_asked_for(define: Callable[[Flags], ConfigFlags]) -> None:
    own = Flags()
    flags = define(own)
    own.values(["command", "--dataset=mnist", "--train_per_class=all"])
    assert flags.config().train_per_class is None


def test_a_run_notes_where_its_data_are_for_commands_in_other_folders(
    mnist_folder: Path, in_tmp_path: Path
) -> None:
    (in_tmp_path / "mnist").symlink_to(mnist_folder)
    before = flagsaver.save_flag_values(mnist.FLAGS.values)
    try:
        mnist.FLAGS.values(["command", "--mnist_path=mnist", "--data_dir=gs://bucket/tfds"])
        config = mnist._CONFIG.config()
    finally:
        flagsaver.restore_flag_values(before, mnist.FLAGS.values)
    assert config.mnist_path == str(in_tmp_path / "mnist")
    assert config.data_dir == "gs://bucket/tfds"
