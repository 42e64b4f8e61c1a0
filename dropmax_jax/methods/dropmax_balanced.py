"""DropMax for many classes, with a balanced regression of the label; see `dropmax_jax.balanced`."""

from dropmax_jax.balanced import dropmax_balanced_loss_and_terms
from dropmax_jax.methods.dropmax import method_of

METHOD = method_of(dropmax_balanced_loss_and_terms)
