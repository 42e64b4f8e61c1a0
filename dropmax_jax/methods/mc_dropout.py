"""Monte Carlo dropout: a softmax whose network keeps dropping units at test time.

The dropout is the network's: half of the units before the heads, in training and in each of the
passes whose probabilities are averaged. See `dropout_rate` and `num_samples` of the `Method`.

References:
    Gal and Ghahramani, `Dropout as a Bayesian Approximation: Representing Model Uncertainty in
    Deep Learning <https://arxiv.org/abs/1506.02142>`_, ICML 2016.
"""

from dropmax_jax.methods.method import Method
from dropmax_jax.methods.softmax import softmax_log_probs, softmax_loss

mc_dropout = Method(
    heads=("logits",),
    loss=softmax_loss,
    log_probs=softmax_log_probs,
    loss_name="cross_entropy",
    dropout_rate=0.5,
    num_samples=50,
)
