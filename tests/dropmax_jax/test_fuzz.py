"""Any heads give the right numbers or a clear error, and never NaN."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import hypothesis.extra.numpy as st_numpy
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import dropmax_jax
from dropmax_jax import (
    Heads,
    bernoulli_kl,
    bernoulli_negative_entropy,
    concrete_log_mask,
    dropmax_balanced_loss,
    dropmax_balanced_loss_and_terms,
    dropmax_linear_log_probs,
    dropmax_linear_loss,
    dropmax_linear_loss_and_terms,
    dropmax_linear_top_k,
    dropmax_log_probs,
    dropmax_logits,
    dropmax_loss,
    dropmax_loss_and_terms,
    dropmax_loss_terms,
    dropmax_uncertainty,
    elbo,
    metrics,
    posterior_logits,
    sample_dropmax_log_probs,
    sample_log_mask,
    softmax_linear_loss,
    weight_decay_mask,
    zero_mask_heads,
)
from tests.dropmax_jax import oracle

KEY = jax.random.key(0)
DTYPES: list[Any] = [np.float32, np.float16, jnp.bfloat16]
# There are few shapes, because each is compiled anew.
SHAPES = [(3,), (2, 2, 5)]
CONFIG = settings(max_examples=30, derandomize=True)


@st.composite
def cases(draw: st.DrawFn, size: float) -> tuple[list[Any], Any]:
    """Three heads of one dtype, with values that it can represent, and labels."""
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


def log_sigmoid(a: Any) -> Any:
    return -np.logaddexp(0.0, -a)


@CONFIG
@given(cases(size=1e4))
def test_elementwise_functions_are_the_formulas(case: tuple[list[Any], Any]) -> None:
    (a, b, _), _ = case
    q, p = (np.asarray(array, np.float64) for array in (a, b))
    negative_entropy = np.exp(log_sigmoid(q)) * log_sigmoid(q)
    negative_entropy += np.exp(log_sigmoid(-q)) * log_sigmoid(-q)
    kl = np.exp(log_sigmoid(q)) * (log_sigmoid(q) - log_sigmoid(p))
    kl += np.exp(log_sigmoid(-q)) * (log_sigmoid(-q) - log_sigmoid(-p))
    np.testing.assert_allclose(bernoulli_negative_entropy(a), negative_entropy, 2e-5, 1e-6)
    found = bernoulli_kl(a, b)
    np.testing.assert_allclose(found, kl, rtol=2e-5, atol=2e-5)
    assert np.all(found >= -1e-6)
    assert not np.any(bernoulli_kl(a, a))


@CONFIG
@given(cases(size=1e4), st.sampled_from([1e-20, 1e-3, 0.0]))
def test_masked_logits_are_the_formula(case: tuple[list[Any], Any], epsilon: float) -> None:
    """The masks retain anything from all to nothing."""
    (logits, log_mask, _), _ = case
    log_mask = np.where(log_mask > 5e3, -np.inf, -abs(log_mask)).astype(log_mask.dtype)
    o, log_z = np.asarray(logits, np.float64), np.asarray(log_mask, np.float64)
    with np.errstate(divide="ignore"):
        expected = o + np.logaddexp(log_z, np.log(epsilon))
    np.testing.assert_allclose(dropmax_logits(logits, log_mask, epsilon), expected, 1e-5, 1e-3)


@CONFIG
@given(cases(size=30.0), st.integers(0, 2**32 - 1))
def test_loss_and_bound_are_the_terms_of_the_mask_drawn(
    case: tuple[list[Any], Any], seed: int
) -> None:
    arrays, labels = case
    heads, key = Heads(*map(jnp.asarray, arrays)), jax.random.key(seed)
    log_mask = sample_log_mask(key, posterior_logits(heads))
    assert np.all(log_mask <= 0.0)
    terms = dropmax_loss_terms(heads, labels, log_mask)
    bound = -(terms.cross_entropy + terms.kl_divergence)
    np.testing.assert_allclose(dropmax_loss(key, heads, labels), terms.total, 1e-4, 1e-4)
    np.testing.assert_allclose(elbo(key, heads, labels), bound, rtol=1e-4, atol=1e-4)


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


F, Y = jnp.log(jnp.full((4, 3), 1 / 3)), jnp.ones(4, jnp.int32)
HEADS = Heads(F, F, F)
LOG_PROBS = {"log_probs": F, "labels": Y, "where": Y == 1}
RANKED = {"uncertainties": jnp.arange(4.0), "is_error": Y == 1, "where": Y == 1}
KERNELS = Heads(F[:3], F[:3], F[:3])
LINEAR = {"key": KEY, "features": F, "kernels": KERNELS, "block_size": (4, 3)}
# Every public function, with valid arguments.
GOOD: dict[Callable[..., Any], dict[str, Any]] = {
    bernoulli_kl: {"q_logits": F, "p_logits": F},
    bernoulli_negative_entropy: {"logits": F},
    concrete_log_mask: {"logits": F, "noise": F, "temperature": 0.1},
    sample_log_mask: {"key": KEY, "logits": F, "temperature": 0.1},
    posterior_logits: {"heads": HEADS},
    dropmax_logits: {"logits": F, "log_mask": F, "epsilon": 0.1},
    dropmax_loss_terms: {"heads": HEADS, "labels": Y, "log_mask": F, "epsilon": 0.1},
    dropmax_loss: {"key": KEY, "heads": HEADS, "labels": Y, "temperature": 0.1, "epsilon": 0.1},
    dropmax_loss_and_terms: {"key": KEY, "heads": HEADS, "labels": Y, "where": Y == 1},
    dropmax_balanced_loss: {"key": KEY, "heads": HEADS, "labels": Y, "weights": None},
    dropmax_balanced_loss_and_terms: {"key": KEY, "heads": HEADS, "labels": Y, "where": Y == 1},
    elbo: {"key": KEY, "heads": HEADS, "labels": Y, "temperature": 0.1, "epsilon": 0.1},
    dropmax_log_probs: {"heads": HEADS, "epsilon": 0.1, "where": Y == 1},
    sample_dropmax_log_probs: {
        "key": KEY,
        "heads": HEADS,
        "num_samples": 2,
        "temperature": 0.1,
        "epsilon": 0.1,
    },
    dropmax_uncertainty: {"key": KEY, "heads": HEADS, "num_samples": 2, "where": Y == 1},
    dropmax_linear_loss: {**LINEAR, "labels": Y, "temperature": 0.1, "epsilon": 0.1},
    dropmax_linear_loss_and_terms: {**LINEAR, "labels": Y, "where": Y == 1, "weights": None},
    softmax_linear_loss: {"features": F, "labels": Y, "kernel": F[:3], "bias": F[0]},
    dropmax_linear_log_probs: {"features": F, "classes": Y[:, None], "kernels": KERNELS},
    dropmax_linear_top_k: {"features": F, "k": 2, "kernels": KERNELS, "where": Y == 1},
    metrics.error_rate: LOG_PROBS,
    metrics.nll: LOG_PROBS,
    metrics.brier: LOG_PROBS,
    metrics.expected_calibration_error: {**LOG_PROBS, "num_bins": 3},
    metrics.adaptive_calibration_error: {**LOG_PROBS, "num_bins": 3},
    metrics.reliability_bins: {**LOG_PROBS, "num_bins": 3},
    metrics.predictive_entropy: {"log_probs": F},
    metrics.mean_log_probs: {"sampled_log_probs": F},
    metrics.mutual_information: {"sampled_log_probs": F},
    metrics.auroc: {
        "scores": jnp.arange(4.0),
        "is_positive": jnp.arange(4) > 1,
        "where": Y == 1,
    },
    metrics.risk_coverage: RANKED,
    metrics.area_under_risk_coverage: RANKED,
}
CALLS = [(function, name) for function, good in GOOD.items() for name in good]


def test_no_public_function_is_left_out() -> None:
    public = [getattr(dropmax_jax, name) for name in dropmax_jax.__all__]
    public += [value for name, value in vars(metrics).items() if name[0] != "_"]
    functions = {value for value in public if inspect.isfunction(value)}
    own = {value for value in functions if value.__module__.startswith("dropmax_jax")}
    # These take any parameters.
    assert own - {weight_decay_mask, zero_mask_heads} == set(GOOD)


def test_good_arguments_are_accepted() -> None:
    for function, good in GOOD.items():
        for leaf in jax.tree.leaves(function(**good)):
            assert np.all(np.isfinite(leaf)), function


@settings(max_examples=300, derandomize=True)
@given(st.sampled_from(CALLS), ANYTHING, st.sampled_from(Heads._fields))
def test_nonsense_in_any_argument_of_any_function_is_refused_or_right(
    call: tuple[Callable[..., Any], str], anything: Any, field: str
) -> None:
    function, name = call
    # The functions compute in float32, where the largest floats are infinite.
    is_finite = not isinstance(anything, float) or abs(anything) <= float(np.finfo(np.float32).max)
    is_heads = name in ("heads", "kernels")
    value = GOOD[function][name]._replace(**{field: anything}) if is_heads else anything
    message = ""
    try:
        found = function(**{**GOOD[function], name: value})
    except (TypeError, ValueError) as error:
        message = str(error)
    if message:
        # Some messages name the argument that does not go with this one.
        assert message.startswith(tuple(GOOD[function]))
        assert " must " in message
    elif is_finite and function is not metrics.auroc:
        # auroc is not defined for positives alone, and says so.
        for leaf in jax.tree.leaves(found):
            assert not np.any(np.isnan(np.asarray(leaf, np.float32)))


@settings(max_examples=100, derandomize=True)
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
