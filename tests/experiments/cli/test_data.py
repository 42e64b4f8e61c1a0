from collections.abc import Callable
from pathlib import Path

import pytest

from tests.experiments.fake_mnist import write_mnist


class TestData:
    def test_a_missing_folder(self, refused: Callable[..., str]) -> None:
        assert "no_such_folder" in refused("--mnist_path=no_such_folder")

    def test_a_file_for_a_folder(self, refused: Callable[..., str], in_tmp_path: Path) -> None:
        (in_tmp_path / "file").touch()
        assert "file: Not a directory" in refused("--mnist_path=file")

    def test_a_missing_file(self, refused: Callable[..., str], mnist_copy: Path) -> None:
        (mnist_copy / "t10k-labels-idx1-ubyte").unlink()
        assert "lacks t10k-labels-idx1-ubyte" in refused(f"--mnist_path={mnist_copy}")

    def test_a_truncated_file(self, refused: Callable[..., str], mnist_copy: Path) -> None:
        images = mnist_copy / "train-images-idx3-ubyte"
        images.write_bytes(images.read_bytes()[:-1])
        message = refused(f"--mnist_path={mnist_copy}")
        assert f"{images} is truncated" in message

    def test_swapped_files(self, refused: Callable[..., str], mnist_copy: Path) -> None:
        images = mnist_copy / "train-images-idx3-ubyte"
        labels = mnist_copy / "train-labels-idx1-ubyte"
        content = images.read_bytes()
        images.write_bytes(labels.read_bytes())
        labels.write_bytes(content)
        assert "swapped" in refused(f"--mnist_path={mnist_copy}")

    def test_more_images_than_there_are(
        self, refused: Callable[..., str], mnist_folder: Path
    ) -> None:
        message = refused(f"--mnist_path={mnist_folder}", "--train_per_class=31")
        assert "the largest --train_per_class possible is 30" in message

    def test_a_path_and_another_data_set(
        self, refused: Callable[..., str], mnist_folder: Path
    ) -> None:
        message = refused(f"--mnist_path={mnist_folder}", "--dataset=mnist_5k")
        assert "contradict" in message

    def test_a_batch_larger_than_the_data(
        self, refused: Callable[..., str], mnist_folder: Path
    ) -> None:
        message = refused(f"--mnist_path={mnist_folder}", "--train_per_class=2", "--batch_size=21")
        assert "--batch_size=21 is larger than the training set of 20 examples" in message

    def test_more_steps_than_int32_counts(
        self, refused: Callable[..., str], mnist_folder: Path
    ) -> None:
        message = refused(
            f"--mnist_path={mnist_folder}",
            "--train_per_class=2",
            "--batch_size=1",
            f"--num_epochs={2**31 - 1}",
        )
        assert "--num_epochs" in message


@pytest.fixture
def mnist_copy(tmp_path: Path) -> Path:
    folder = tmp_path / "mnist"
    write_mnist(folder, train_per_class=101, test_per_class=1, gz=False)
    return folder
