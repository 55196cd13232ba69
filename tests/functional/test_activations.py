# SPDX-License-Identifier: MIT
"""Every activation in every place, with parameters of either sign: values, slopes, derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference
from bptt._activations import ACTIVATIONS, OF_PLAIN_RNN, as_activation, inside, steepest
from support import complex_step
from support.compare import DTYPES, TOLERANCE, assert_close, same_bits
from support.problems import Case, backward, forward, named, problem, results

PARAMETERS: dict[str, list[tuple[float, ...]]] = {
    "leaky_relu": [(0.2,), (-0.3,), (0.0,), (1.2,)],
    "hard_sigmoid": [(0.2,), (0.2, 0.5), (-0.3, 0.4), (0.0, 0.3), (0.4, -2.0)],
    "elu": [(0.6,), (-0.7,), (0.0,)],
    "thresholded_relu": [(0.3,), (-0.4,), (0.0,)],
    "scaled_tanh": [(1.7159, 2 / 3), (-0.8, 1.2), (0.9, -0.5), (0.0, 1.0), (0.7, 0.0)],
    "affine": [(0.6, 0.2), (-0.5, 0.1), (0.0, 0.3)],
}
EVERY: list[Any] = [
    *ACTIVATIONS,
    *((name, *numbers) for name, rows in PARAMETERS.items() for numbers in rows),
]
PLACES = [
    ("rnn", "activation"),
    ("lstm", "gate_activation"),
    ("lstm", "activation"),
    ("lstm", "output_activation"),
    ("gru", "gate_activation"),
    ("gru", "activation"),
]
# One row of every other option that goes through a gate's equations.
WITH: dict[str, dict[str, dict[str, Any]]] = {
    "rnn": {
        "leak": {"leak": 0.4, "lengths": True},
        "layer_norm": {"layer_norm": True, "resets": True, "reverse": True},
    },
    "lstm": {
        "peepholes": {"peepholes": True, "cell_clip": 0.8, "zoneout": 0.2},
        "layer_norm": {"layer_norm": True, "forget_gate": "coupled", "skip": 2},
    },
    "gru": {
        "before": {"reset_after": False, "h_mask": True, "lengths": True},
        "layer_norm": {"layer_norm": True, "dilation": 2},
    },
}
SHAPE = (4, 3, 2, 19)


def name_of(activation: Any) -> str:
    return activation if isinstance(activation, str) else "-".join(map(str, activation))


def cases(activation: Any, cell: str, option: str) -> list[Case]:
    one = {option: activation}
    with_others = [Case(name, cell, {**one, **more}) for name, more in WITH[cell].items()]
    return [Case("alone", cell, one), Case("clip", cell, {**one, "preact_clip": 0.9}), *with_others]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("cell", "option"), PLACES)
@pytest.mark.parametrize("activation", EVERY, ids=name_of)
def test_core_equals_reference(
    isa: str, activation: Any, cell: str, option: str, dtype: str
) -> None:
    grows = (cell, option) == ("gru", "gate_activation")  # h, by gates beyond 1
    for seed, case in enumerate(cases(activation, cell, option)):
        p = problem(case, SHAPE, seed=seed, scale=0.6 if grows else 1.0).cast(dtype)
        for how in ({}, {"step_clip": ("norm", 0.2, "gates"), "trace": "full"}):
            got, want = ({**results(m, p.cast(d), **how)} for m, d in
                         ((bptt, dtype), (reference, "float64")))  # fmt: skip
            traces = [r.pop("d trace", None) for r in (got, want)]
            for name, value in want.items():  # where gates are 0, what rounding leaves
                want[name] = np.where(np.abs(value) < 1e-14, 0, value)
            assert_close(got, want, TOLERANCE[dtype])
            if how and dtype == "float64":
                assert_close(*(t.full.gates for t in traces), 1e-11)
                shown, expected = (t.saturated for t in traces)
                assert list(shown) == list(expected)
                assert_close(shown, expected, 1e-12)


@pytest.mark.parametrize(("cell", "option"), PLACES)
@pytest.mark.parametrize("activation", EVERY, ids=name_of)
def test_gradients_are_those_of_the_complex_step(activation: Any, cell: str, option: str) -> None:
    for seed, case in enumerate(cases(activation, cell, option)):
        p = problem(case, (3, 2, 2, 3), seed=seed)
        _, _, tape = forward(bptt, p)
        grads = named(None, None, backward(bptt, p, tape))
        want = complex_step.gradients(p)
        assert_close({name: grads[name] for name in want}, want, 1e-12)


@pytest.mark.parametrize(("cell", "option"), PLACES)
@pytest.mark.parametrize("activation", EVERY, ids=name_of)
def test_derivatives_along_a_direction(activation: Any, cell: str, option: str) -> None:
    p = problem(Case("", cell, {option: activation}), (4, 2, 2, 5))
    rng = np.random.default_rng(1)
    primals = {name: a for name, a in p.arrays.items() if a is not None}
    tangents = {
        name: tuple(map(np.ones_like, a)) if isinstance(a, tuple) else rng.standard_normal(a.shape)
        for name, a in primals.items()
    }

    def flat(tree: Any) -> list[Any]:
        nested = isinstance(tree, (tuple, list))
        return [a for part in tree for a in flat(part)] if nested else [tree]

    both = []
    for module in (bptt, reference):
        function = getattr(module, f"{cell}_forward")
        first = module.jvp(function, primals, tangents, **p.options)
        second = module.hvp(function, primals, tangents, p.dy, p.dstate, **p.options)
        both.append([a for a in flat([first, second]) if a is not None])
    core, twin = ({str(k): a for k, a in enumerate(found)} for found in both)
    assert_close(core, twin, 1e-11)


@pytest.mark.parametrize("activation", EVERY, ids=name_of)
def test_threads_checkpoints_streams_and_prepared_layers(activation: Any) -> None:
    for cell, option in PLACES:
        p = problem(Case("", cell, {option: activation}), (33, 9, 5, 70))
        want = results(bptt, p)
        same_bits(results(bptt, p, threads=2, checkpoint="sqrt"), want)
        layer = {"rnn": bptt.RNN, "lstm": bptt.LSTM, "gru": bptt.GRU}[cell]
        one = layer(3, 5, 2, seed=0, **{option: activation})
        x = np.random.default_rng(0).standard_normal((6, 2, 3)).astype(np.float32)
        y = one(x)[0]
        assert np.array_equal(one.stream(2).process(x), y)
        assert np.array_equal(one.prepare()(x)[0], y)


@pytest.mark.parametrize("activation", EVERY, ids=name_of)
def test_slopes_and_ends_are_those_of_the_function(activation: Any) -> None:
    """Of numbers far from any kink, by differences; the ends by far arguments."""
    a = np.linspace(-30, 30, 200_003)
    value, derivative = reference.activations.functions_of(activation)
    y = value(a)
    slopes = np.diff(y) / np.diff(a)
    smooth = np.abs(slopes) < 50  # not across a threshold
    middle = (a[1:] + a[:-1]) / 2
    want = derivative(middle, value(middle))
    near = np.abs(slopes - want) < 1e-3 * max(1, np.abs(want).max())
    assert (near | ~smooth).mean() > 0.9998
    assert steepest(as_activation("f", "a", activation)) == pytest.approx(
        np.abs(derivative(a, y)).max(), rel=1e-4
    )
    bounds = inside(as_activation("f", "a", activation))
    if bounds is None:  # a value that both a saturated and a healthy unit have
        assert (np.abs(want) < 1e-3).any() or (want < 0).any()
    elif not isinstance(activation, str) and 0 in activation[1:2] and want.any() == 0:
        assert ((y < bounds[0]) | (y > bounds[1])).all()
    else:
        outside = (y < bounds[0]) | (y > bounds[1])
        healthy = np.abs(derivative(a, y)) > 0.25 * np.abs(want).max()
        assert (outside & healthy).mean() < 0.01 or "leaky_relu" in activation


def test_far_arguments() -> None:
    """No overflow and no NaN where the function has a value."""
    far = np.array([-1e38, -1e20, -1000, -100, -1e-20, 0, 1e-20, 100, 1000, 1e20, 1e38])
    for dtype in DTYPES:
        x = far.astype(dtype)[None, :, None]
        one = np.ones((1, 1), dtype)
        for name, want in {
            "softsign": far / (1 + np.abs(far)),
            "softplus": np.logaddexp(0, far),
            "elu": np.where(far > 0, far, np.expm1(np.minimum(far, 0))),
            "scaled_tanh": np.tanh(far),
        }.items():
            y, _, tape = bptt.rnn_forward(x, one, one, activation=name)
            np.testing.assert_allclose(y[0, :, 0], want, 1e-6, 1e-7)
            dx = bptt.rnn_backward(tape, np.ones_like(y)).x
            assert np.isfinite(dx).all()
            assert (np.abs(dx) <= 1 + 1e-6).all()


def test_small_arguments_of_an_elu_keep_their_digits() -> None:
    x = -np.logspace(-30, -1, 30)[None, :, None]
    y = bptt.rnn_forward(x, np.ones((1, 1)), np.ones((1, 1)), activation="elu")[0]
    np.testing.assert_allclose(y, np.expm1(x), 1e-15)


def test_a_tuple_with_the_defaults_is_the_name() -> None:
    assert bptt.RNN(2, 3, activation=("tanh",)).activation == "tanh"
    gru = bptt.GRU(2, 3, gate_activation=["hard_sigmoid", 1 / 6], seed=0)
    assert gru.gate_activation == "hard_sigmoid"
    lstm = bptt.LSTM(2, 3, gate_activation=["hard_sigmoid", 0.2], seed=0)
    assert lstm.gate_activation == ("hard_sigmoid", 0.2, 0.5)
    assert "LSTM(2, 3, gate_activation=('hard_sigmoid', 0.2, 0.5))" in repr(lstm)
    x = np.ones((2, 1, 2))
    w = np.ones((3, 2)), np.ones((3, 3))
    assert bptt.rnn_forward(x, *w, activation=("tanh",))[2].options is None


def test_products_in_bfloat16_are_for_activations_of_the_plain_cell() -> None:
    for name in OF_PLAIN_RNN:
        layer = bptt.RNN(4, 8, activation=name, compute="bf16_if_available", seed=0)
        layer(np.ones((3, 2, 4), np.float32))
    for activation in ("softplus", ("leaky_relu", 0.3)):
        x = np.ones((3, 2, 4), np.float32)
        layer = bptt.RNN(4, 8, activation=activation, compute="bf16_if_available", seed=0)
        plain = bptt.RNN(4, 8, activation=activation, seed=0)
        assert np.array_equal(layer(x)[0], plain(x)[0])
        if bptt.show_config()["bf16"]:
            narrow = bptt.RNN(4, 8, activation=activation, compute="bf16", seed=0)
            with pytest.raises(ValueError, match="rnn has no kernels for with these options"):
                narrow(x)


# --- functions, of the reference alone


def test_the_reference_takes_a_function() -> None:
    """Of a complex array; or with its derivative, which a second derivative needs."""

    def swish(a: Any) -> Any:
        return a / (1 + np.exp(-a))

    def slope(a: Any) -> Any:
        s = 1 / (1 + np.exp(-a))
        return s + a * s * (1 - s)

    for cell, option in PLACES:
        alone = problem(Case("", cell, {option: swish}), (4, 2, 2, 5))
        pair = alone.given(**{option: (swish, slope)})
        got = results(reference, alone)
        assert_close(results(reference, pair), got, 1e-13)
        want = complex_step.gradients(alone)
        assert_close({name: got[name] for name in want}, want, 1e-12)
        function = getattr(reference, f"{cell}_forward")
        x = {"x": alone.arrays["x"]}
        rest = {n: a for n, a in alone.arrays.items() if n != "x"}
        with pytest.raises(ValueError, match=f"hvp: {option} is a function, expected a tuple"):
            reference.hvp(function, alone.arrays, x, alone.dy, alone.dstate, **alone.options)
        _, along = reference.hvp(function, alone.arrays, x, alone.dy, alone.dstate, **pair.options)
        step = 1e-6
        ends = []
        for sign in (1, -1):
            moved = alone._replace(arrays={"x": (1 + sign * step) * x["x"], **rest})
            ends.append(results(reference, moved)["d w_hh"])
        difference = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(along.w_hh, difference, 1e-5, 1e-6 * np.abs(difference).max())


def test_a_function_of_ones_own_equals_the_named_one() -> None:
    for cell, option in PLACES:
        named_one = problem(Case("", cell, {option: ("elu", 0.6)}), (4, 2, 2, 5))

        def elu(a: Any) -> Any:
            return np.where(a.real > 0, a, 0.6 * (np.exp(np.where(a.real > 0, 0, a)) - 1))

        own = named_one.given(**{option: elu})
        assert_close(results(bptt, named_one), results(reference, own), 1e-12)
