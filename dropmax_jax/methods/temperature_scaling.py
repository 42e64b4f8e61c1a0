r"""Temperature scaling: a softmax, made calibrated by one number fitted on validation data.

References:
    Guo et al., `On Calibration of Modern Neural Networks <https://arxiv.org/abs/1706.04599>`_,
    ICML 2017.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dropmax_jax import _checks
from dropmax_jax.dropmax import Heads, head_arrays
from dropmax_jax.methods.method import Method
from dropmax_jax.methods.softmax import softmax_log_probs, softmax_loss

_LARGEST = 1e3
# Each halves an interval of log T that is 14 wide at first; more would not move a float32.
_NUM_HALVINGS = 32


def fit_temperature(heads: Heads, labels: ArrayLike) -> jax.Array:
    r"""The temperature under which labels are most probable.

    .. math::
        T = \operatorname{argmin}_{T} -\sum_i \log\operatorname{softmax}(o_i / T)_{t_i}

    The sum is convex in 1/T, so T is where its derivative in 1/T,
    :math:`\sum_i \mathbb{E}_{k \sim \operatorname{softmax}(o_i/T)}[o_{ik}] - o_{it_i}`, changes
    its sign. This is found by bisection, which cannot diverge. The search is between 1/1000 and
    1000. Of temperatures that are equally good to the last digit, as where all predictions are
    right and the sum approaches 0 with T, the highest is taken: the least confident.

    Args:
        heads: Heads with `logits`, `[..., K]`, of validation data.
        labels: Class of each example, integers `[...]` in [0, K); undefined result otherwise.

    Returns:
        T, a scalar; float64 if `logits` is, else float32. No gradient flows through it.

    Raises:
        ValueError: The shapes do not fit, or there is no class or no example.
        TypeError: `logits` is not floating point, or labels are not integers.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.temperature_scaling import fit_temperature
        >>> logits = jax.random.normal(jax.random.key(0), (10_000, 5))
        >>> labels = jax.random.categorical(jax.random.key(1), logits)
        >>> temperature = fit_temperature(Heads(3 * logits), labels)  # thrice too confident
        >>> bool(abs(temperature - 3) < 0.2)
        True

    References:
        Guo et al. 2017, section 4.2 (temperature scaling).
    """
    (logits,) = head_arrays(heads, "logits")
    is_target = _checks.target_mask(labels, logits.shape, "heads.logits")
    if logits.size == 0:
        raise ValueError(f"heads.logits must have an example, but has shape {logits.shape}")
    logits = jax.lax.stop_gradient(logits)
    # How far each class lies above the label: sums of it keep their digits for any logits.
    margins = logits - jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1, keepdims=True)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) / 2
        probs = jax.nn.softmax(margins * jnp.exp(-middle))
        # A class that a logit of minus infinity rules out counts nothing.
        weighed = jnp.where(probs > 0.0, probs * margins, 0.0)
        is_too_confident = jnp.mean(jnp.sum(weighed, axis=-1)) >= 0.0
        return jnp.where(is_too_confident, middle, low), jnp.where(is_too_confident, high, middle)

    limit = jnp.asarray(math.log(_LARGEST), logits.dtype)
    # Within shard_map the bounds differ between devices, from the beginning, as the logits do.
    limit = jnp.where(jnp.any(margins > 0.0), limit, limit)
    low, high = jax.lax.fori_loop(0, _NUM_HALVINGS, halve, (-limit, limit))
    return jnp.exp((low + high) / 2)


def scaled_log_probs(heads: Heads, fitted: ArrayLike | None = None) -> jax.Array:
    r"""Log-softmax of :math:`o / T`, for the temperature fitted.

    Args:
        heads: Heads with `logits`, `[..., K]`.
        fitted: T, a positive scalar, as `fit_temperature` returns it; None for 1.

    Returns:
        Log-probabilities `[..., K]`, in nats; float64 if `logits` is, else float32.

    Raises:
        ValueError: There is no class, or T is a number that is not positive.
        TypeError: `logits` is not floating point.

    Example:
        >>> import jax.numpy as jnp
        >>> from dropmax_jax import Heads
        >>> from dropmax_jax.methods.temperature_scaling import scaled_log_probs
        >>> heads = Heads(jnp.array([0.0, 2 * jnp.log(3.0)]))
        >>> print(jnp.exp(scaled_log_probs(heads, 2.0)))  # and 0.1 and 0.9 with T = 1
        [0.25 0.75]
    """
    if fitted is None:
        return softmax_log_probs(heads)
    (logits,) = head_arrays(heads, "logits")
    return jax.nn.log_softmax(logits / _checks.positive_temperature(fitted, logits.dtype, "fitted"))


temperature_scaling = Method(
    heads=("logits",),
    loss=softmax_loss,
    log_probs=scaled_log_probs,
    loss_name="cross_entropy",
    fit=fit_temperature,
)
