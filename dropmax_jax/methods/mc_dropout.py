"""Monte Carlo dropout: a softmax whose network keeps dropping units at test time.

The network drops half of the units before the heads, in training and in each of the forward passes
whose probabilities are averaged.

References:
    Gal and Ghahramani, `Dropout as a Bayesian Approximation: Representing Model Uncertainty in
    Deep Learning <https://arxiv.org/abs/1506.02142>`_, ICML 2016.
"""

import dataclasses

from dropmax_jax.methods import softmax

METHOD = dataclasses.replace(softmax.METHOD, dropout_rate=0.5, num_samples=50)
