# SPDX-License-Identifier: MIT
"""Wrong calls, while JAX traces them and while they run."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from support.child import output

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import bptt.jax  # noqa: E402

GOOD: dict[str, Any] = {
    "x": np.ones((5, 2, 3), np.float32),
    "w_ih": np.ones((16, 3), np.float32),
    "w_hh": np.ones((16, 4), np.float32),
}
ROWS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": np.ones((5, 3, 2, 1))}, ValueError, "x has 4 dimensions, expected at most 3"),
    ({"x": np.ones((5, 2, 4))}, ValueError, "w_ih has shape (16, 3), expected (4*H, I) = (16, 4)"),
    ({"x": None}, TypeError, "x is None, expected an array"),
    ({"x": np.ones((5, 2, 3), complex)}, TypeError, "x has dtype complex64, expected real numbers"),
    ({"x": [[1.0], [1.0, 2.0]]}, TypeError, "x is not an array: "),
    ({"x": "text"}, TypeError, "x is not an array: "),
    ({"x": jax.random.key(0)}, TypeError, "x has dtype key<fry>, expected real numbers"),
    ({"w_hh": np.ones((16, 5))}, ValueError, "w_hh has shape (16, 5), expected "),
    ({"b_ih": np.ones(4)}, ValueError, "b_ih has shape (4,), expected (4*H,) = (16,)"),
    ({"state": np.ones((2, 4))}, TypeError, "expected a tuple (h, c)"),
    ({"state": (np.ones((2, 4)), np.ones((3, 4)))}, ValueError, "expected (B, H) = (2, 4)"),
    ({"lengths": np.ones(2)}, TypeError, "lengths has dtype float32, expected integers"),
    ({"lengths": [1, 2, 3]}, ValueError, "lengths has shape (3,), expected (B,) = (2,)"),
    ({"lengths": [1, 6]}, ValueError, "lengths has values 1..6, expected 0..T = 0..5"),
    ({"resets": np.ones((5, 2))}, TypeError, "resets has dtype float32, expected bool"),
    ({"resets": np.ones((2, 5), bool)}, ValueError, "resets has shape (2, 5), expected (T, B) = "),
    ({"h_mask": np.ones((2, 5))}, ValueError, "h_mask has shape (2, 5), expected (B, H) = (2, 4)"),
    ({"peepholes": np.ones((2, 4))}, ValueError, "peepholes has shape (2, 4), expected (3, H) = "),
    ({"layer_norm": (np.ones(16),)}, ValueError, "layer_norm has 1 items, expected (g_ih, g_hh)"),
    ({"zoneout": (np.ones((5, 2, 4)), 0.5)}, TypeError, "zoneout is a number and an array, "),
    ({"nonlinearity": "relu"}, TypeError, "nonlinearity is no argument, expected one of ['peep"),
    ({"forget_gate": "other"}, ValueError, "forget_gate is 'other', expected "),
    ({"cell_clip": "1"}, TypeError, "cell_clip is '1', expected a number"),
    ({"cell_clip": -1.0}, ValueError, "cell_clip is -1"),
    ({"dilation": 0}, ValueError, "dilation is 0, expected 1 or more"),
    ({"reverse": 1}, TypeError, "reverse is 1, expected True or False"),
    ({"threads": 0}, ValueError, "threads is 0, expected 1.."),
    ({"cut": 0}, ValueError, "cut is 0, expected 1 or more"),
    ({"step_clip": ("norm", -1)}, ValueError, "step_clip has bound -1, expected more than 0"),
    ({"step_clip": 1.0}, ValueError, "step_clip is 1.0, expected ('value', bound)"),
    ({"checkpoint": "all"}, ValueError, "checkpoint is 'all', expected None, 'sqrt' or a number"),
    ({"compute": "fp8"}, ValueError, "compute is 'fp8', expected one of"),
]


@pytest.mark.parametrize(("wrong", "kind", "text"), ROWS, ids=lambda v: str(v)[:40])
def test_a_wrong_argument(wrong: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match="^jax.lstm: .*" + re.escape(text)):
        bptt.jax.lstm(**GOOD | wrong)


def test_shapes_are_checked_while_tracing() -> None:
    ran: list[int] = []

    @jax.jit
    def program(x: Any) -> Any:
        jax.debug.callback(lambda: ran.append(1))
        return bptt.jax.gru(x, jnp.ones((12, 3)), jnp.ones((12, 5)))

    with pytest.raises(ValueError, match=re.escape("jax.gru: w_hh has shape (12, 5), expected")):
        program(jnp.ones((5, 2, 3)))
    assert not ran


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("reverse", "reverse is JitTracer(bool[]), expected True or False"),
        ("threads", "threads is JitTracer(bool[]), expected a whole number"),
        ("cell_clip", "cell_clip is a traced number, expected a constant"),
        ("zoneout", "zoneout is a traced number, expected a constant"),
    ],
)
def test_what_must_be_a_constant(name: str, text: str) -> None:
    program = jax.jit(lambda value: bptt.jax.lstm(**GOOD, **{name: value})[0])
    with pytest.raises(TypeError, match=re.escape(f"jax.lstm: {text}")):
        program(True)


def test_lengths_of_a_compiled_program_are_checked_when_it_runs() -> None:
    program = jax.jit(lambda lengths: bptt.jax.lstm(**GOOD, lengths=lengths)[0])
    assert program(jnp.array([5, 0])).shape == (5, 2, 4)
    kinds = (jax.errors.JaxRuntimeError, ValueError)  # at the call, or when its result is awaited
    with pytest.raises(kinds, match=r"lstm_forward: lengths\[1\] is 6, expected 0..T = 0..5"):
        program(jnp.array([5, 6])).block_until_ready()


def test_forward_mode() -> None:
    x = jnp.ones((5, 2, 3))
    for derivative in (
        lambda f: jax.jvp(f, (x,), (x,)),
        lambda f: jax.jacfwd(f)(x),
        lambda f: jax.hessian(lambda x: f(x).sum())(x),
    ):
        with pytest.raises(TypeError, match="forward-mode"):
            derivative(lambda x: bptt.jax.lstm(**GOOD | {"x": x})[0])


@pytest.mark.parametrize("jit", [lambda f: f, jax.jit])
def test_second_derivatives(jit: Any) -> None:
    def squared(x: Any) -> Any:
        return (bptt.jax.lstm(**GOOD | {"x": x})[0] ** 2).sum()

    with pytest.raises(TypeError, match=r"jax.lstm: a second derivative is wanted.*bptt.hvp"):
        jit(jax.grad(lambda x: jax.grad(squared)(x).sum()))(jnp.ones((5, 2, 3)))


@pytest.mark.parametrize(
    ("cell", "name", "shape"),
    [("lstm", "h_mask", (2, 4)), ("lstm", "zoneout", (5, 2, 4)), ("rnn", "leak", (16,))],
)
def test_no_gradient_of_masks(cell: str, name: str, shape: Any) -> None:
    given = GOOD if cell == "lstm" else {**GOOD, "w_hh": np.ones((16, 16), np.float32)}

    def loss(mask: Any) -> Any:
        return getattr(bptt.jax, cell)(**given, **{name: mask})[0].sum()

    text = f"jax.{cell}: a gradient of {name} is wanted, which is not computed; expected "
    with pytest.raises(TypeError, match=re.escape(f"{text}jax.lax.stop_gradient({name})")):
        jax.grad(loss)(jnp.ones(shape))
    stopped = jax.grad(lambda mask: loss(jax.lax.stop_gradient(mask)))(jnp.ones(shape))
    assert not np.any(stopped)


def test_without_jax() -> None:
    program = """
        import sys
        sys.modules["jax"] = None
        import bptt
        try:
            import bptt.jax
        except ImportError as error:
            print(error)
    """
    assert (
        output(program) == 'bptt.jax: JAX 0.7 or newer is not installed: pip install "bptt[jax]"\n'
    )


def test_jax_comes_with_bptt_jax_alone() -> None:
    assert output("import sys, bptt; print('jax' in sys.modules)") == "False\n"
