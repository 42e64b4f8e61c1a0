"""The data sets by name: what each is, which module reads it, and how it is trained.

Commands read this before anything slow is imported, so this module imports nothing slow.
"""

import string
from collections.abc import Mapping
from typing import Any, NamedTuple

DIGITS = tuple(string.digits)
# EMNIST's balanced set merges the lower-case letters that look like their capitals.
_BALANCED = (*DIGITS, *string.ascii_uppercase, *"abdefghnqrt")
_FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


class Row(NamedTuple):
    """A data set.

    Attributes:
        source: The module of `experiments.data` that reads it; see `sources`.
        class_names: Of its classes, in the order of the labels; empty where the data tell.
        image_shape: Of its images: height and width, and 3 for colour; the number of bytes of its
            texts; empty where the data tell.
        options: Which of the flags that say where and what data are mean something to it.
        strokes: Whether it shows light strokes on a dark ground, as `experiments.predict` makes of
            a photo.
        recipe: The fields of `Config` that have another default for it.
    """

    source: str
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, ...] = (28, 28)
    options: tuple[str, ...] = ("data_path", "data_dir")
    strokes: bool = True
    recipe: Mapping[str, Any] = {}


# He et al., Deep Residual Learning for Image Recognition, 2016, section 4.2, with the cosine of
# Loshchilov and Hutter, SGDR, 2017.
_COLOUR = {
    "network": "resnet34",
    "train_per_class": None,
    "batch_size": 128,
    "num_epochs": 200,
    "learning_rate": 0.1,
    "optimizer": "sgd",
    "schedule": "cosine",
    "weight_decay": 5e-4,
    "augmentation": "crop_flip",
}
_CIFAR_10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

ROWS: dict[str, Row] = {
    "auto": Row("mnist", DIGITS),
    "mnist": Row("mnist", DIGITS),
    "mnist_5k": Row("mnist", DIGITS, options=("data_dir",)),
    "fashion_mnist": Row("idx_sets", _FASHION, strokes=False),
    "kmnist": Row("idx_sets", _KUZUSHIJI),
    "emnist_balanced": Row("idx_sets", _BALANCED),
    "emnist_letters": Row("idx_sets", tuple(string.ascii_uppercase)),
    "cifar10": Row("cifar", _CIFAR_10, (32, 32, 3), strokes=False, recipe=_COLOUR),
    "cifar100": Row("cifar", (), (32, 32, 3), strokes=False, recipe=_COLOUR),
    "glyphs": Row(
        "glyphs",
        options=("num_classes",),
        recipe={"train_per_class": 12, "num_epochs": 240, "schedule": "cosine"},
    ),
    "languages": Row(
        "languages",
        image_shape=(48,),
        options=("num_classes",),
        strokes=False,
        recipe={
            "network": "text",
            "train_per_class": 12,
            "num_epochs": 60,
            "learning_rate": 3e-3,
            "schedule": "cosine",
        },
    ),
    "folder": Row(
        "folder",
        image_shape=(),
        options=("data_path", "image_size"),
        strokes=False,
        recipe={"train_per_class": None},
    ),
}


def row_of(name: str) -> Row:
    """The row of a data set, whose name may go on with a detail, as in `glyphs:62`.

    A folder of images in MNIST's format can have any name.
    """
    return ROWS.get(name.partition(":")[0], ROWS["auto"])
