"""Figures that others report, in per cent, to stand beside ours.

The paper's: Lee et al., DropMax: Adaptive Variational Softmax, NeurIPS 2018 (MNIST-1K, the CNN of
the TensorFlow tutorial). The reproduction's: jamesal1/DropMax, ICLR 2018 reproducibility challenge
(the same CNN with dropout 0.5, tuned). The original code's: the authors' TensorFlow code, run with
LeNet on MNIST-1K, mean of five runs.
"""

from collections.abc import Mapping

PAPER_1K: Mapping[str, float] = {
    "softmax": 7.09,
    "sparsemax": 6.57,
    "sampled_softmax": 7.36,
    "class_dropout": 7.19,
    "deterministic_attention": 6.91,
    "dropmax_prior": 7.52,
    "dropmax": 5.32,
}

# ResNet-34 on all training images; ours are fewer by those that validate.
PAPER_CIFAR_100: Mapping[str, float] = {
    "softmax": 30.60,
    "sparsemax": 31.41,
    "sampled_softmax": 30.87,
    "class_dropout": 30.78,
    "deterministic_attention": 30.60,
    "dropmax_prior": 29.98,
    "dropmax": 29.87,
}

# By training images: 1,000, 5,000 and 55,000.
REPRODUCTION: Mapping[str, tuple[float, float, float]] = {
    "softmax": (4.00, 1.52, 1.06),
    "class_dropout": (3.57, 1.73, 0.77),
    "random_dropmax_logit": (3.54, 1.61, 0.79),
    "dropmax": (3.04, 1.36, 0.56),
    "dropmax_logit": (2.97, 1.44, 0.63),
}

ORIGINAL_CODE_1K: Mapping[str, float] = {"softmax": 4.92, "dropmax": 3.55}

# By the images and the method.
PAPER_CALIBRATION: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("background_random", "softmax"): {"error_percent": 12.89, "ece_percent": 1.52},
    ("background_random", "dropmax"): {"error_percent": 10.86, "ece_percent": 0.683},
    ("background_rotation", "softmax"): {"error_percent": 52.06, "ece_percent": 7.69},
    ("background_rotation", "dropmax"): {"error_percent": 48.81, "ece_percent": 2.38},
}
