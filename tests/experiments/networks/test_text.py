"""The network for texts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax import Heads
from experiments.networks import LeNet, ResNet18
from experiments.networks.text import Text
from tests.exporting import assert_exports

NETWORK = Text(num_classes=7, heads=Heads._fields)
NAMES = (b"Deutschland", b"Sverige", b"\xe1\x83\xa1\xe1\x83\x90", b"")


def rows(length: int, names: tuple[bytes, ...] = NAMES) -> np.ndarray:
    return np.array([[*name.ljust(length, b"\0")] for name in names], np.uint8)


@pytest.fixture(scope="module")
def params() -> Any:
    return jax.jit(NETWORK.init)(jax.random.key(0), rows(12))


def logits(params: Any, texts: np.ndarray, key: jax.Array | None = None) -> np.ndarray:
    heads: Any = NETWORK.apply(params, texts, key)
    return np.asarray(heads.logits)


def test_zeros_behind_a_text_change_nothing(params: Any) -> None:
    np.testing.assert_allclose(logits(params, rows(12)), logits(params, rows(30)), atol=1e-6)


def test_features_are_the_largest_of_each_three_bytes(params: Any) -> None:
    """As a loop over the positions finds them."""
    weights = jax.tree.map(np.asarray, params["params"])
    table, layer = weights["Dense_0"]["kernel"], weights["Dense_1"]
    for text, found in zip(rows(12), logits(params, rows(12)), strict=True):
        bytes_of = [table[byte - 1] if byte else np.zeros(32) for byte in text.tolist()]
        embedded = [np.zeros(32), *bytes_of, np.zeros(32)]
        features = np.zeros(256)
        for place in np.flatnonzero(text):
            window = np.concatenate(embedded[place : place + 3])
            features = np.maximum(features, window @ layer["kernel"] + layer["bias"])
        np.testing.assert_allclose(
            features @ weights["heads"]["logits"]["kernel"], found, atol=1e-5
        )


def test_an_empty_batch(params: Any) -> None:
    assert logits(params, rows(12)[:0]).shape == (0, 7)


def test_dropout_belongs_to_the_example(params: Any) -> None:
    network = NETWORK.clone(dropout_rate=0.5)
    keys = jax.random.split(jax.random.key(1), 4)
    all_of_them: Any = network.apply(params, rows(12), keys)
    some: Any = network.apply(params, rows(12)[1:3], keys[1:3])
    np.testing.assert_allclose(all_of_them.logits[1:3], some.logits, atol=1e-6)
    assert not np.allclose(all_of_them.logits, logits(params, rows(12)))


def test_bfloat16_computes_the_same_roughly(params: Any) -> None:
    heads: Any = NETWORK.clone(dtype=jnp.bfloat16).apply(params, rows(12))
    assert heads.logits.dtype == jnp.float32
    np.testing.assert_allclose(heads.logits, logits(params, rows(12)), atol=0.05)


def test_is_exported_for_any_batch(params: Any) -> None:
    assert_exports(lambda texts: NETWORK.apply(params, texts), jnp.asarray(rows(12)))


def test_networks_refuse_the_data_of_others() -> None:
    with pytest.raises(ValueError, match=r"reads texts, rows of bytes, .* is \(28, 28, 1\)"):
        jax.eval_shape(Text().init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    for network in (LeNet(), ResNet18()):
        with pytest.raises(ValueError, match=r"reads images, .* is \(48,\), a row of bytes"):
            jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 48), jnp.uint8))
