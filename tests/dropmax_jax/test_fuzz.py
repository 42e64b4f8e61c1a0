"""Any heads give the right numbers or a clear error, and never NaN."""

from functools import partial
from typing import Any

import hypothesis.extra.numpy as st_numpy
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dropmax_jax import (
    Heads,
    concrete_log_mask,
    dropmax_log_probs,
    dropmax_loss,
    dropmax_loss_terms,
    posterior_logits,
    sample_dropmax_log_probs,
)
from tests.dropmax_jax import oracle

KEY = jax.random.key(0)
DTYPES = [np.float32, np.float16, jnp.bfloat16]
# Few shapes: each is compiled anew.
SHAPES = [(3,), (2, 2, 5)]
CONFIG = settings(max_examples=30, deadline=None, derandomize=True)


@st.composite
def cases(draw: st.DrawFn, size: float) -> tuple[list[Any], Any]:
    """Three heads of one dtype, holding what it can represent, and labels."""
    shape = draw(st.sampled_from(SHAPES))
    dtype = draw(st.sampled_from(DTYPES))
    elements = st.floats(-size, size, width=32)
    heads = [draw(st_numpy.arrays(np.float32, shape, elements=elements)) for _ in range(3)]
    labels = draw(st_numpy.arrays(np.int32, shape[:-1], elements=st.integers(0, shape[-1] - 1)))
    return [head.astype(dtype) for head in heads], labels


@CONFIG
@given(
    cases(size=30.0),
    st.sampled_from([0.1, 0.7, 5.0]),
    st.sampled_from([1e-20, 1e-3, 0.0]),
    st.integers(0, 2**31),
)
def test_terms_are_the_formulas(
    case: tuple[list[Any], Any], temperature: float, epsilon: float, seed: int
) -> None:
    arrays, labels = case
    noise = np.random.default_rng(seed).logistic(size=arrays[0].shape).astype(np.float32)
    heads = Heads(*map(jnp.asarray, arrays))
    log_mask = concrete_log_mask(posterior_logits(heads), noise, temperature)
    terms = dropmax_loss_terms(heads, labels, log_mask, epsilon)
    o, prior, label = (np.asarray(array, np.float64) for array in arrays)
    expected = oracle.loss_terms(
        o, prior, label, labels, noise.astype(np.float64), temperature, epsilon
    )
    for name, term in terms._asdict().items():
        np.testing.assert_allclose(term, expected[name], rtol=2e-5, atol=2e-4, err_msg=name)
    log_probs = dropmax_log_probs(heads, epsilon)
    np.testing.assert_allclose(log_probs, oracle.predict(o, prior, epsilon), rtol=2e-5, atol=1e-4)


@CONFIG
@given(
    cases(size=1e4),
    st.floats(1e-6, 1e6),
    st.sampled_from([0.0, 1e-20]),
    st.integers(0, 2**32 - 1),
)
def test_never_nan(
    case: tuple[list[Any], Any], temperature: float, epsilon: float, seed: int
) -> None:
    arrays, labels = case
    heads = Heads(*map(jnp.asarray, arrays))
    gradients, loss, predictions = run(
        heads, labels, jax.random.key(seed), jnp.float32(temperature), epsilon
    )
    assert np.all(np.isfinite(loss))
    for gradient in gradients:
        assert not np.any(np.isnan(gradient.astype(np.float32)))
    for log_probs in predictions:
        assert not np.any(np.isnan(log_probs))
        np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1.0, rtol=1e-4)


@partial(jax.jit, static_argnames="epsilon")
def run(
    heads: Heads, labels: jax.Array, key: jax.Array, temperature: jax.Array, epsilon: float
) -> tuple[Heads, jax.Array, tuple[jax.Array, jax.Array]]:
    """The gradients, the loss, and the predictions by the mean mask and by two sampled ones."""

    def total(heads: Heads) -> tuple[jax.Array, jax.Array]:
        loss = dropmax_loss(key, heads, labels, temperature=temperature, epsilon=epsilon)
        return loss.sum(), loss

    gradients, loss = jax.grad(total, has_aux=True)(heads)
    samples = sample_dropmax_log_probs(key, heads, 2, temperature=temperature, epsilon=epsilon)
    return gradients, loss, (dropmax_log_probs(heads, epsilon), samples)


ANYTHING = st.one_of(
    st.none(),
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=3),
    st_numpy.arrays(
        st.sampled_from([np.float32, np.int32, np.bool_, np.complex64, np.float16]),
        st.sampled_from([(), (0,), (3,), (4, 3), (3, 4), (4, 1), (4,)]),
        elements=st.just(1),
    ),
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(ANYTHING, ANYTHING, ANYTHING, ANYTHING, st.integers(0, 4))
def test_nonsense_is_refused_or_right(
    logits: Any, labels: Any, temperature: Any, epsilon: Any, which: int
) -> None:
    # One argument at a time, or all four at once.
    good: list[Any] = [jnp.ones((4, 3)), jnp.ones(4, jnp.int32), 0.1, 1e-20]
    bad = [logits, labels, temperature, epsilon]
    arguments = [bad[i] if which in (i, 4) else good[i] for i in range(4)]
    message, loss = "", None
    try:
        heads = Heads(arguments[0], good[0], good[0])
        loss = dropmax_loss(
            KEY, heads, arguments[1], temperature=arguments[2], epsilon=arguments[3]
        )
    except (TypeError, ValueError) as error:
        message = str(error)
    if loss is None:
        assert message.startswith(("heads.", "labels", "temperature", "epsilon"))
        assert " must be " in message or " must have " in message
    else:
        assert loss.shape == (4,)
        assert np.all(np.isfinite(loss))
