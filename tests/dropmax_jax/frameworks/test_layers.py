"""DropMax works in any framework, as a layer of four."""

import re
from collections.abc import Callable
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from dropmax_jax import Heads, dropmax_log_probs, dropmax_loss, weight_decay_mask, zero_mask_heads
from dropmax_jax.equinox import DropMaxHeads as EquinoxHeads
from dropmax_jax.haiku import DropMaxHeads as HaikuHeads
from dropmax_jax.linen import DropMaxHeads as LinenHeads
from dropmax_jax.nnx import DropMaxHeads as NnxHeads

NUM_CLASSES, SIZE = 4, 8

# The layers. Each function below makes a network of one hidden layer and `DropMaxHeads`, and gives
# its parameters and the function of them and of features that gives the heads. The features'
# type, and the arguments, are for `DropMaxHeads`.

Apply = Callable[[Any, jax.Array], Heads]
HIDDEN = 16
FEATURES = jax.random.normal(jax.random.key(3), (6, SIZE))
LABELS = jnp.arange(6) % NUM_CLASSES


def linen_layer(**arguments: Any) -> tuple[Any, Apply]:
    head = LinenHeads(NUM_CLASSES, name="heads", **arguments)
    network: Any = nn.Sequential([nn.Dense(HIDDEN), nn.tanh, head])
    return network.init(jax.random.key(0), FEATURES), network.apply


def nnx_layer(**arguments: Any) -> tuple[Any, Apply]:
    rngs = nnx.Rngs(0)
    network = nnx.Sequential(
        nnx.Linear(SIZE, HIDDEN, rngs=rngs),
        jnp.tanh,
        NnxHeads(HIDDEN, NUM_CLASSES, rngs=rngs, **arguments),
    )
    graph, params = nnx.split(network)
    return params, lambda params, x: nnx.merge(graph, params)(x)


def equinox_layer(**arguments: Any) -> tuple[Any, Apply]:
    keys = jax.random.split(jax.random.key(0))
    network = eqx.nn.Sequential(
        [
            eqx.nn.Linear(SIZE, HIDDEN, key=keys[0]),
            eqx.nn.Lambda(jnp.tanh),
            EquinoxHeads(HIDDEN, NUM_CLASSES, key=keys[1], **arguments),
        ]
    )
    params, static = eqx.partition(network, eqx.is_array)

    def apply(params: Any, x: jax.Array) -> Any:
        mapped: Any = eqx.combine(params, static)
        for _ in x.shape[:-1]:
            mapped = jax.vmap(mapped)
        return mapped(x)

    return params, apply


def haiku_layer(**arguments: Any) -> tuple[Any, Apply]:
    def forward(x: jax.Array) -> Heads:
        return HaikuHeads(NUM_CLASSES, **arguments)(jnp.tanh(hk.Linear(HIDDEN)(x)))

    network: Any = hk.without_apply_rng(hk.transform(forward))
    return network.init(jax.random.key(0), FEATURES), network.apply


LAYERS = [linen_layer, nnx_layer, equinox_layer, haiku_layer]
Layer = Callable[..., tuple[Any, Apply]]
every_framework = pytest.mark.parametrize("layer", LAYERS)


def by_name(params: Any) -> dict[str, jax.Array]:
    paths = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): leaf for path, leaf in paths}


def is_of_mask_head(name: str) -> bool:
    return "prior_logits" in name or "label_logits" in name


@every_framework
class TestLayers:
    def test_give_float32_heads(self, layer: Layer) -> None:
        params, apply = layer()
        heads = apply(params, FEATURES)
        assert {head.shape for head in heads} == {(6, NUM_CLASSES)}
        assert {head.dtype for head in heads} == {jnp.dtype(jnp.float32)}
        for one, other in [(0, 1), (0, 2), (1, 2)]:
            assert not np.allclose(heads[one], heads[other])  # each has its own parameters

    def test_name_their_parameters_as_the_heads(self, layer: Layer) -> None:
        params, _ = layer()
        names = [re.findall(r"\b(?:prior_|label_|)logits\b", name) for name in by_name(params)]
        found = sorted(name for (name,) in filter(None, names))
        assert found == sorted([*Heads._fields, *Heads._fields])  # weights and biases
        assert len(names) == 8

    @pytest.mark.parametrize("heads", [("logits",), ["label_logits", "logits"], Heads._fields])
    def test_give_the_heads_they_are_asked_for(self, layer: Layer, heads: list[str]) -> None:
        params, apply = layer(heads=heads)
        given = apply(params, FEATURES)
        assert {name for name in Heads._fields if getattr(given, name) is not None} == set(heads)
        assert len(by_name(params)) == 2 + 2 * len(heads)

    @pytest.mark.parametrize(
        ("heads", "message"), [(["logits", "mask"], r"not \['mask'\]"), ("logits", "must be among")]
    )
    def test_refuse_other_names(self, layer: Layer, heads: list[str], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            layer(heads=heads)

    def test_need_the_class_logits(self, layer: Layer) -> None:
        with pytest.raises(ValueError, match="must have logits among them"):
            layer(heads=["prior_logits"])

    def test_spare_their_mask_heads_weight_decay(self, layer: Layer) -> None:
        params, _ = layer()
        optimizer = optax.adamw(0.1, weight_decay=0.5, mask=weight_decay_mask)
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, _ = optimizer.update(zeros, optimizer.init(params), params)
        before, after = by_name(params), by_name(optax.apply_updates(params, updates))
        assert sum(map(is_of_mask_head, before)) == 4
        for name, value in before.items():
            wanted = value if is_of_mask_head(name) else 0.95 * value
            np.testing.assert_allclose(after[name], wanted, rtol=1e-6, err_msg=name)

    def test_start_with_the_predictions_of_a_softmax(self, layer: Layer) -> None:
        params, apply = layer()
        logits = apply(params, FEATURES).logits
        heads = apply(zero_mask_heads(params), FEATURES)
        np.testing.assert_array_equal(heads.logits, logits)
        np.testing.assert_array_equal(jax.nn.sigmoid(heads.prior_logits), 0.5)
        wanted = jax.nn.log_softmax(logits)
        np.testing.assert_allclose(dropmax_log_probs(heads), wanted, atol=1e-6)

    def test_train_every_parameter_from_zero_mask_heads(self, layer: Layer) -> None:
        params, apply = layer()

        @jax.jit
        @jax.grad
        def gradient(params: Any) -> jax.Array:
            return dropmax_loss(jax.random.key(1), apply(params, FEATURES), LABELS).mean()

        for name, value in by_name(gradient(zero_mask_heads(params))).items():
            assert np.all(np.isfinite(value)), name
            assert np.any(value != 0.0), name

    def test_give_the_same_under_jit_and_for_any_leading_axes(self, layer: Layer) -> None:
        params, apply = layer()
        together = jax.jit(apply)(params, FEATURES)
        for head, wanted in zip(apply(params, FEATURES), together, strict=True):
            np.testing.assert_allclose(head, wanted, atol=1e-6)
        reshaped = apply(params, FEATURES.reshape(2, 3, SIZE))
        for head, wanted in zip(reshaped, together, strict=True):
            np.testing.assert_allclose(head, wanted.reshape(2, 3, NUM_CLASSES), atol=1e-6)


# What each framework calls a layer without biases, and one with these initialisers.
ONES = jax.nn.initializers.ones
OWN_ARGUMENTS: list[tuple[Layer, dict[str, Any], dict[str, Any]]] = [
    (linen_layer, {"use_bias": False}, {"kernel_init": ONES, "bias_init": ONES}),
    (nnx_layer, {"use_bias": False}, {"kernel_init": ONES, "bias_init": ONES}),
    (haiku_layer, {"with_bias": False}, {"w_init": jnp.ones, "b_init": jnp.ones}),
]


def of_heads(params: Any) -> list[jax.Array]:
    return [leaf for name, leaf in by_name(params).items() if "logits" in name]


@pytest.mark.parametrize(
    ("layer", "arguments"),
    [
        *[(layer, arguments) for layer, arguments, _ in OWN_ARGUMENTS],
        (equinox_layer, {"use_bias": False}),
    ],
)
def test_layers_can_have_no_biases(layer: Layer, arguments: dict[str, Any]) -> None:
    params, apply = layer(**arguments)
    assert [leaf.ndim for leaf in of_heads(params)] == [2, 2, 2]
    assert apply(params, FEATURES).logits.shape == (6, NUM_CLASSES)


@pytest.mark.parametrize(("layer", "arguments"), [(a, c) for a, _, c in OWN_ARGUMENTS])
def test_layers_start_as_their_initialisers_say(layer: Layer, arguments: dict[str, Any]) -> None:
    params, _ = layer(**arguments)
    for leaf in of_heads(params):
        np.testing.assert_array_equal(leaf, 1.0)


@pytest.mark.parametrize("layer", [linen_layer, nnx_layer])
def test_layers_compute_in_one_type_and_keep_parameters_in_another(layer: Layer) -> None:
    params, apply = layer(dtype=jnp.bfloat16, param_dtype=jnp.float16)
    assert {leaf.dtype for leaf in of_heads(params)} == {jnp.dtype(jnp.float16)}
    for head in apply(params, FEATURES):
        assert head.dtype == jnp.float32
        np.testing.assert_array_equal(head, head.astype(jnp.bfloat16))


def test_equinox_parameters_can_be_of_another_type() -> None:
    layer = EquinoxHeads(SIZE, NUM_CLASSES, dtype=jnp.bfloat16, key=jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(layer)} == {jnp.dtype(jnp.bfloat16)}
    for head in layer(FEATURES.astype(jnp.bfloat16)):
        assert head.dtype == jnp.float32
        np.testing.assert_array_equal(head, head.astype(jnp.bfloat16))


def test_haiku_parameters_are_of_the_features_type() -> None:
    network: Any = hk.transform(lambda x: HaikuHeads(NUM_CLASSES)(x))
    features = FEATURES.astype(jnp.bfloat16)
    params = network.init(jax.random.key(0), features)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
    for head in network.apply(params, None, features):
        assert head.dtype == jnp.float32
        np.testing.assert_array_equal(head, head.astype(jnp.bfloat16))


def test_the_equinox_layer_needs_no_vmap() -> None:
    layer = EquinoxHeads(SIZE, NUM_CLASSES, key=jax.random.key(0))
    features = FEATURES.reshape(2, 3, SIZE)
    for head, wanted in zip(layer(features), jax.vmap(jax.vmap(layer))(features), strict=True):
        np.testing.assert_allclose(head, wanted, atol=1e-6)


def test_an_equinox_module_can_be_whole_or_filtered() -> None:
    layer = EquinoxHeads(SIZE, NUM_CLASSES, key=jax.random.key(0))
    for module in (layer, eqx.filter(layer, eqx.is_array)):
        zeroed = zero_mask_heads(module)
        assert jnp.all(zeroed.prior_logits.weight == 0.0)
        assert jnp.array_equal(zeroed.logits.weight, layer.logits.weight)


def test_nnx_modules_are_updated_in_place() -> None:
    layer = NnxHeads(SIZE, NUM_CLASSES, rngs=nnx.Rngs(0))
    nnx.update(layer, zero_mask_heads(nnx.state(layer, nnx.Param)))
    heads = layer(FEATURES)
    assert jnp.all(heads.prior_logits == 0.0)
    assert not jnp.any(heads.logits == 0.0)


def test_nnx_optimizers_take_the_mask() -> None:
    layer = NnxHeads(SIZE, NUM_CLASSES, rngs=nnx.Rngs(0))
    before = layer(FEATURES)
    optimizer = nnx.Optimizer(layer, optax.adamw(0.1, mask=weight_decay_mask), wrt=nnx.Param)
    optimizer.update(layer, jax.tree.map(jnp.zeros_like, nnx.state(layer, nnx.Param)))
    after = layer(FEATURES)
    np.testing.assert_array_equal(after.prior_logits, before.prior_logits)
    np.testing.assert_array_equal(after.label_logits, before.label_logits)
    assert not jnp.any(after.logits == before.logits)
