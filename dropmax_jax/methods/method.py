"""What a method of the comparison is: the heads it needs, its loss and its prediction."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.typing import ArrayLike

from dropmax_jax.dropmax import Heads


@dataclass(frozen=True, eq=False)
class Method:
    """One way to train and use a classifier, as a set of pure functions.

    A trainer builds a network with the `heads` named, minimises the mean of `loss`, and predicts
    with `log_probs`; what else a method wants, it says in the fields below, each of which has a
    value that means no such thing. Compared and hashed by identity, so that it can be a static
    argument of a jitted function.

    Attributes:
        heads: Names of the fields of `Heads` that the network must give.
        loss: `(key, heads, labels, **settings) -> [...]`, the loss per example, in nats
            where it is a likelihood's. Its keyword-only arguments are the `hyperparameters`.
        log_probs: `(heads, fitted=None) -> [..., K]`, log-probabilities at test time.
        loss_name: The name under which to report a loss of a single term.
        loss_terms: `(key, heads, labels, **settings) -> dict` of terms `[...]` that add up to the
            loss, by the names under which to report them. Called by `terms`.
        settings: Hyper-parameters to be chosen on validation data, each with the values to try.
        fit: `(heads, labels) -> pytree`, fitted on validation data after training; handed to
            `log_probs` as `fitted`.
        sample_log_probs: `(key, heads, num_samples) -> [num_samples, ..., K]`, log-probabilities
            under what the method draws at random.
        dropout_rate: Dropout to apply before the heads while training, beyond the network's own.
        num_samples: If not 0, the prediction is the mean of the probabilities of this many
            forward passes with that dropout on.

    Raises:
        ValueError: `heads` names no field of `Heads`, `settings` names no hyper-parameter, or
            `dropout_rate` or `num_samples` is out of range.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import METHODS, Heads
        >>> method = METHODS["dropmax"]
        >>> heads = Heads(*jnp.zeros((3, 8, 10)))
        >>> method.loss(jax.random.key(0), heads, jnp.arange(8), temperature=0.5).shape
        (8,)
        >>> method.log_probs(heads).shape
        (8, 10)
    """

    heads: tuple[str, ...]
    loss: Callable[..., jax.Array]
    log_probs: Callable[..., jax.Array]
    loss_name: str = "loss"
    loss_terms: Callable[..., dict[str, jax.Array]] | None = None
    settings: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    fit: Callable[[Heads, jax.Array], Any] | None = None
    sample_log_probs: Callable[..., jax.Array] | None = None
    dropout_rate: float = 0.0
    num_samples: int = 0

    def __post_init__(self) -> None:
        for name in self.heads:
            if name not in Heads._fields:
                raise ValueError(
                    f"heads must name fields of Heads, {Heads._fields}, but has {name!r}"
                )
        for name in self.settings:
            if name not in self.hyperparameters:
                raise ValueError(
                    f"settings must name keyword-only arguments of loss, "
                    f"{tuple(self.hyperparameters)}, but has {name!r}"
                )
        if not 0.0 <= self.dropout_rate < 1.0:
            raise ValueError(f"dropout_rate must be in [0, 1), but is {self.dropout_rate}")
        if self.num_samples < 0:
            raise ValueError(f"num_samples must be at least 0, but is {self.num_samples}")

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The keyword-only arguments of `loss`, with their default values.

        These are what `loss` and `terms` accept as `**settings`: a caller passes on those of its
        own options whose names are in here.

        Example:
            >>> from dropmax_jax import METHODS
            >>> METHODS["dropmax"].hyperparameters
            {'temperature': 0.1}
            >>> METHODS["softmax"].hyperparameters
            {}
        """
        return {
            parameter.name: parameter.default
            for parameter in inspect.signature(self.loss).parameters.values()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }

    def terms(
        self, key: jax.Array, heads: Heads, labels: ArrayLike, **settings: Any
    ) -> dict[str, jax.Array]:
        """The terms of the loss, by name, per example `[...]`; they add up to the loss.

        Example:
            >>> import jax
            >>> import jax.numpy as jnp
            >>> from dropmax_jax import METHODS, Heads
            >>> heads, labels = Heads(jnp.zeros((8, 10))), jnp.arange(8)
            >>> list(METHODS["softmax"].terms(jax.random.key(0), heads, labels))
            ['cross_entropy']
        """
        if self.loss_terms is None:
            return {self.loss_name: self.loss(key, heads, labels, **settings)}
        return self.loss_terms(key, heads, labels, **settings)
