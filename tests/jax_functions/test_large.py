# SPDX-License-Identifier: MIT
"""Large arrays in compiled programs: a callback that waited for JAX would wait for ever."""

from __future__ import annotations

import pytest

from support.child import output

pytest.importorskip("jax")

PROGRAM = """
    import os
    if {one_core} and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])  # the pool has one thread
    import jax, jax.numpy as jnp
    import bptt.jax

    T, B, I, H = {shape}
    x, w_ih = jnp.ones((T, B, I)), jnp.full((4 * H, I), 0.01)
    w_hh, w = jnp.full((4 * H, H), 0.01), jnp.full((4 * H, H), 0.01)

    @jax.jit
    def step(x, w_ih, w_hh, w):
        def loss(x, w_ih, w_hh, w):
            y, _ = bptt.jax.lstm(jnp.tanh(x), w_ih, w_hh)
            y, _ = bptt.jax.lstm(jnp.sin(y @ w[:H]), w, w_hh)
            return (y**2).sum()

        value, grads = jax.value_and_grad(loss, (0, 1, 2, 3))(x, w_ih, w_hh, w)
        return value, [a - 1e-15 * d for a, d in zip((x, w_ih, w_hh, w), grads)]

    arrays, values = (x, w_ih, w_hh, w), []
    for _ in range(12):
        value, arrays = step(*arrays)
        values.append(value)
        busy = (jnp.ones((500, 500)) @ jnp.ones((500, 500))).sum()  # beside it
    values = [float(value) for value in values]
    print(max(values) < 1.001 * min(values), values[0] > 0, float(busy))
"""


@pytest.mark.parametrize("one_core", [True, False])
@pytest.mark.parametrize("shape", [(60, 64, 128, 128), (50, 256, 400, 32)])
def test_it_ends(shape: tuple[int, ...], one_core: bool) -> None:
    assert output(PROGRAM.format(shape=shape, one_core=one_core), 150) == "True True 125000000.0\n"
