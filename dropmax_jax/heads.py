"""What a network gives for each example: class logits, and the logits of the two mask heads."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks

# In a path such as `['params']['heads']['prior_logits']['kernel']`, or Haiku's
# `['net/~/prior_logits']['w']`.
_MASK_HEAD = re.compile(r"\b(prior_logits|label_logits)\b")
_Params = TypeVar("_Params")


class Heads(NamedTuple):
    """What a network gives for each example, finite numbers `[..., K]`, classes last.

    Attributes:
        logits: o(x), the class logits.
        prior_logits: Logits of ρ(x), the probability that a class is retained; None if unused.
        label_logits: Logits of r(x), which regresses the one-hot label; None if unused.
    """

    # `Any` stands for None: a type checker then lets users of all three heads compute with them.
    logits: jax.Array
    prior_logits: jax.Array | Any = None
    label_logits: jax.Array | Any = None

    @staticmethod
    def split(outputs: ArrayLike, axis: int = -1) -> "Heads":
        """Splits the outputs of one layer into the three heads, in the order of the fields.

        `weight_decay_mask` cannot tell the heads of one layer apart. For weight decay, use a layer
        for each head.

        Args:
            outputs: Floating-point array `[..., 3 K]`.
            axis: Of the 3 K outputs, by default the last.

        Returns:
            The heads `[..., K]`, in the type of `outputs`.

        Raises:
            TypeError: `outputs` is not a floating-point array.
            ValueError: The size of `outputs` along `axis` is not a positive multiple of 3.

        Example:
            >>> import jax.numpy as jnp
            >>> from dropmax_jax import Heads
            >>> heads = Heads.split(jnp.zeros((8, 30)))
            >>> heads.prior_logits.shape
            (8, 10)
        """
        array = _checks.float_array("outputs", outputs)
        if not -array.ndim <= axis < array.ndim:
            raise ValueError(f"outputs must have an axis {axis}, but has shape {array.shape}")
        if array.shape[axis] == 0 or array.shape[axis] % 3:
            raise ValueError(
                f"outputs must have a positive multiple of 3 along axis {axis}, "
                f"but has shape {array.shape}"
            )
        return Heads(*jnp.split(array, 3, axis))


def weight_decay_mask(params: Any) -> Any:
    """Says which parameters weight decay applies to: all but those of the two mask heads.

    The authors of DropMax do not decay the mask heads. Pass this function as `mask` to
    `optax.adamw` or `optax.add_decayed_weights`.

    Args:
        params: A pytree of parameters of any framework.

    Returns:
        Booleans in the structure of `params`: False for each leaf that has `prior_logits` or
        `label_logits` in its path, as a key, an attribute or a part of a Haiku module's name.
        A network without these names is decayed as a whole.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from dropmax_jax import weight_decay_mask
        >>> weight_decay_mask({"logits": jnp.ones((64, 10)), "prior_logits": jnp.ones((64, 10))})
        {'logits': True, 'prior_logits': False}
        >>> optimizer = optax.adamw(1e-3, weight_decay=1e-4, mask=weight_decay_mask)

    References:
        The code of the authors of Lee et al. 2018.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: not _is_mask_head(path), params)


def zero_mask_heads(params: _Params) -> _Params:
    """Sets the parameters of the two mask heads to zero, to start from a trained softmax layer.

    All classes then have the retain probability 1/2, and `dropmax_log_probs` gives the
    log-softmax of the class logits, up to rounding.

    Args:
        params: A pytree of parameters whose mask heads are named as in `Heads`.

    Returns:
        `params` with zeros in each leaf for which `weight_decay_mask` is False.

    Raises:
        ValueError: No leaf belongs to a mask head.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import zero_mask_heads
        >>> params = zero_mask_heads({"logits": jnp.ones(2), "prior_logits": jnp.ones(2)})
        >>> print(params["logits"], params["prior_logits"])
        [1. 1.] [0. 0.]
    """
    if all(jax.tree.leaves(weight_decay_mask(params))):
        raise ValueError("params must have leaves under prior_logits or label_logits")

    def zero(path: tuple[Any, ...], leaf: Any) -> Any:
        return jnp.zeros_like(leaf) if _is_mask_head(path) else leaf

    zeroed: _Params = jax.tree_util.tree_map_with_path(zero, params)
    return zeroed


def _is_mask_head(path: tuple[Any, ...]) -> bool:
    return _MASK_HEAD.search(jax.tree_util.keystr(path)) is not None


def head_arrays(heads: Heads, *names: str) -> tuple[jax.Array, ...]:
    """The heads of these names, checked, in their common precision; for methods."""
    if not isinstance(heads, Heads):
        raise TypeError(f"heads must be a dropmax_jax.Heads, but is a {type(heads).__name__}")
    arrays: list[jax.Array] = []
    for name in names:
        value = getattr(heads, name)
        if value is None:
            raise ValueError(f"heads.{name} must be an array [..., K], but is None")
        array = _checks.class_array(f"heads.{name}", value)
        if arrays:
            _checks.same_shape(f"heads.{name}", array, arrays[0].shape, f"heads.{names[0]}")
        arrays.append(array)
    return _checks.promote(*arrays)


def check_names(names: Sequence[str]) -> None:
    """Raises ValueError unless `names` are of heads, with the class logits; for layers."""
    if unknown := set(names) - set(Heads._fields):
        raise ValueError(f"heads must be among {Heads._fields}, not {sorted(unknown)}")
    if "logits" not in names:
        raise ValueError(f"heads must have logits among them, but is {tuple(names)}")
