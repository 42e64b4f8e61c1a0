"""What a method of the comparison is: the heads it needs, its loss and its prediction.

The functions of a method take the arguments, give the results and raise the errors that
`dropmax_jax.dropmax` describes.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.typing import ArrayLike

from dropmax_jax import _where
from dropmax_jax.heads import Heads

Terms = dict[str, jax.Array]


@dataclass(frozen=True, eq=False)
class Method:
    """One way to train and use a classifier, as a set of pure functions.

    A trainer builds a network with the `heads` named, minimises the mean of `loss`, and predicts
    with `log_probs`. Methods are compared and hashed by identity, so that one can be a static
    argument of a jitted function.

    Attributes:
        heads: Names of the fields of `Heads` that the network must give.
        loss_and_terms: `(key, heads, labels, **hyperparameters)` to the loss per example `[...]`,
            and to a dict of the terms `[...]` that add up to it. Its keyword-only arguments are the
            `hyperparameters`.
        predict: `(heads) -> [..., K]`, log-probabilities at test time; `(heads, fitted)` with
            `fit`. Called by `log_probs`.
        search_space: Hyperparameters to choose on validation data, each with the values to try.
        fit: `(heads, labels) -> pytree`, fitted on validation data after training.
        sample_log_probs: `(key, heads, num_samples) -> [num_samples, ..., K]`, log-probabilities
            under what the method draws at random.
        dropout_rate: Dropout to apply before the heads while training, beyond the network's own.
        num_samples: If not 0, the prediction is the mean of the probabilities of this many
            forward passes with that dropout on.

    Raises:
        ValueError: `heads` names no field of `Heads`, `search_space` names no hyperparameter, or
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
    loss_and_terms: Callable[..., tuple[jax.Array, Terms]]
    predict: Callable[..., jax.Array]
    search_space: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
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
        for name in self.search_space:
            if name not in self.hyperparameters:
                raise ValueError(
                    f"search_space must name keyword-only arguments of loss_and_terms, "
                    f"{tuple(self.hyperparameters)}, but has {name!r}"
                )
        if not 0.0 <= self.dropout_rate < 1.0:
            raise ValueError(f"dropout_rate must be in [0, 1), but is {self.dropout_rate}")
        if self.num_samples < 0:
            raise ValueError(f"num_samples must be at least 0, but is {self.num_samples}")

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What `loss` accepts as `**hyperparameters`, with the default values.

        Example:
            >>> from dropmax_jax import METHODS
            >>> METHODS["dropmax"].hyperparameters
            {'temperature': 0.1}
            >>> METHODS["softmax"].hyperparameters
            {}
        """
        return {
            parameter.name: parameter.default
            for parameter in inspect.signature(self.loss_and_terms).parameters.values()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }

    def loss(
        self,
        key: jax.Array,
        heads: Heads,
        labels: ArrayLike,
        *,
        where: ArrayLike | None = None,
        **hyperparameters: Any,
    ) -> jax.Array:
        """The loss per example `[...]`, in nats where it is a likelihood's."""
        return self._counted(key, heads, labels, where, hyperparameters)[0]

    def terms(
        self,
        key: jax.Array,
        heads: Heads,
        labels: ArrayLike,
        *,
        where: ArrayLike | None = None,
        **hyperparameters: Any,
    ) -> Terms:
        """The terms of the loss, by name, per example `[...]`.

        Example:
            >>> import jax
            >>> import jax.numpy as jnp
            >>> from dropmax_jax import METHODS, Heads
            >>> heads, labels = Heads(jnp.zeros((8, 10))), jnp.arange(8)
            >>> list(METHODS["softmax"].terms(jax.random.key(0), heads, labels))
            ['cross_entropy']
        """
        return self._counted(key, heads, labels, where, hyperparameters)[1]

    def log_probs(
        self, heads: Heads, fitted: Any = None, *, where: ArrayLike | None = None
    ) -> jax.Array:
        """Log-probabilities `[..., K]` at test time, with what `fit` returned, if anything."""
        counts = _where.parse_for(where, heads)
        arguments = (counts.heads(heads),) if fitted is None else (counts.heads(heads), fitted)
        return counts.per_class(self.predict(*arguments))

    def _counted(
        self,
        key: jax.Array,
        heads: Heads,
        labels: ArrayLike,
        where: ArrayLike | None,
        hyperparameters: Mapping[str, Any],
    ) -> tuple[jax.Array, Terms]:
        """The loss and terms of the examples that count, and 0 for the rest."""
        counts = _where.parse_for(where, heads)
        labels = counts.labels(labels)
        loss, terms = self.loss_and_terms(key, counts.heads(heads), labels, **hyperparameters)
        return counts.per_example(loss), {
            name: counts.per_example(term) for name, term in terms.items()
        }


@dataclass(frozen=True)
class SingleTerm:
    """The `loss_and_terms` of a loss that is one term, with the name under which to report it.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax.method import SingleTerm
        >>> SingleTerm("margin", lambda key, heads, labels: jnp.zeros(2))(None, None, None)[1]
        {'margin': Array([0., 0.], dtype=float32)}
    """

    name: str
    loss: Callable[..., jax.Array]

    def __call__(self, *args: Any, **hyperparameters: Any) -> tuple[jax.Array, Terms]:
        """The loss, and the loss as a term."""
        value = self.loss(*args, **hyperparameters)
        return value, {self.name: value}

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.loss)
