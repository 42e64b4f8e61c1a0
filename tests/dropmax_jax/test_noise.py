"""Any part of the noise has the numbers that jax.random gives to the whole."""

from collections.abc import Callable

import jax
import jax.export
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from dropmax_jax._noise import logistic, logistic_at, logistic_in_place, threefry_key
from tests.dropmax_jax import oracle


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [0, 2**33 + 7])
@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_in_place(make_key: Callable[[int], jax.Array], seed: int, dtype: str) -> None:
    with oracle.enable_x64(seed >= 2**32 or dtype == "float64"):
        key, shape = make_key(seed), (6, 1001)
        expected = logistic(key, shape, jnp.dtype(dtype))
        found = logistic_in_place(key, shape, jnp.dtype(dtype))
        np.testing.assert_array_equal(found, expected)


def test_some_columns_of_some_rows() -> None:
    key, rows, columns = jax.random.key(1), jnp.uint32([4, 0]), jnp.uint32([9, 5, 6])
    found = logistic_at(threefry_key(key), (6, 10), jnp.dtype("float32"), rows, columns)
    expected = logistic(key, (6, 10), jnp.dtype("float32"))
    np.testing.assert_array_equal(found, expected[rows][:, columns])


def test_numbers_beyond_four_billion_have_a_second_word() -> None:
    words, shape = threefry_key(jax.random.key(2**31 + 5)), (20_000, 3_000_000_000)
    rows, columns = np.array([0, 1, 19_999]), np.array([0, 1, 2_999_999_999])
    counts = rows.astype(np.uint64)[:, None] * np.uint64(shape[1]) + columns.astype(np.uint64)
    halves = np.stack([counts >> np.uint64(32), counts & np.uint64(2**32 - 1)]).astype(np.uint32)
    assert halves[0].max() > 10_000
    hashed = jax.extend.random.threefry_2x32(words, halves.reshape(-1)).reshape(halves.shape)
    uniform = ((hashed[0] ^ hashed[1]) >> 9) * 2.0**-23 + 2.0**-24
    found = logistic_at(words, shape, jnp.dtype("float32"), jnp.uint32(rows), jnp.uint32(columns))
    np.testing.assert_allclose(found, jnp.log(uniform / (1 - uniform)), rtol=1e-5)


def test_a_program_for_any_number_of_rows_has_them_too() -> None:
    words, columns = threefry_key(jax.random.key(0)), jnp.arange(3, dtype=jnp.uint32)

    def noise(rows: jax.Array) -> jax.Array:
        shape = (rows.shape[0], 2**17)
        return logistic_at(words, shape, jnp.dtype("float32"), rows, columns)

    (size,) = jax.export.symbolic_shape("n")
    rows = jax.ShapeDtypeStruct((size,), jnp.uint32)
    exported = jax.export.export(jax.jit(noise))(rows)
    found = exported.call(jnp.uint32([0, 2**15]))
    whole = logistic_at(
        words, (2**16, 2**17), jnp.dtype("float32"), jnp.uint32([0, 2**15]), columns
    )
    np.testing.assert_array_equal(found, whole)
    assert not np.array_equal(found[0], found[1])


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_other_generators_give_their_own_numbers(impl: str) -> None:
    key = jax.random.key(3, impl=impl)
    found = logistic_in_place(key, (6, 10), jnp.dtype("float32"))
    np.testing.assert_array_equal(found, logistic(key, (6, 10), jnp.dtype("float32")))
    assert threefry_key(key).shape == (2,)
