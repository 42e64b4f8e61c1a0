"""Linear heads give the numbers of one device wherever they lie, and move no kernel and no head."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from dropmax_jax import Heads, dropmax_linear_loss
from tests.dropmax_jax.linear.heads import KEY, inputs

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_on_eight_devices() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.dropmax_jax.linear.sharded"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert len(found) == 9
    for name, outcome in found.items():
        assert outcome["difference"] < 1e-5, name
        assert outcome["moves"] == [], name


def test_examples_spread_over_shard_map_train_shared_kernels() -> None:
    given = inputs((6, 10, 4))
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))

    def here(features: jax.Array, labels: jax.Array, kernels: Heads) -> jax.Array:
        losses = dropmax_linear_loss(KEY, features, labels, kernels, block_size=(4, 3))
        return jax.lax.pmean(jnp.mean(losses), "data")

    over_data, whole = PartitionSpec("data"), PartitionSpec()
    mapped = jax.shard_map(here, mesh=mesh, in_specs=(over_data, over_data, whole), out_specs=whole)
    actual = jax.grad(mapped, 2)(given.features, given.labels, given.kernels)
    expected = jax.grad(
        lambda kernels: dropmax_linear_loss(KEY, given.features, given.labels, kernels).mean()
    )(given.kernels)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), actual, expected)
