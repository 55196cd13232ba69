# SPDX-License-Identifier: MIT
"""Products in bfloat16: as exact as their 8 bits allow, and only where asked for."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import _core
from bptt.bench.workloads import POINTS, Point, problem
from bptt.demo.model import Batch, Reader
from support.compare import error
from support.problems import flat

CELLS = ["rnn", "lstm", "gru"]
# Weights as PyTorch draws them; tails of every block, one row and many.
SHAPES = [
    Point(5, 1, 3, 4),
    Point(20, 3, 40, 33),
    Point(30, 9, 7, 65),
    Point(40, 33, 70, 48),
    Point(7, 100, 16, 130),
    POINTS["small"],
]


def results(cell: str, point: Point, threads: int | None = None, **options: Any) -> dict[str, Any]:
    p = problem(cell, point)
    forward, backward = getattr(bptt, f"{cell}_forward"), getattr(bptt, f"{cell}_backward")
    state = p.state if len(p.state) > 1 else p.state[0]
    y, final, tape = forward(p.x, *p.weights, state, threads=threads, **options)
    grads = backward(tape, p.dy, threads=threads)
    arrays = [y, *flat(final), *grads[:5], *flat(grads.state)]
    assert all(a.dtype == np.float32 for a in arrays)
    return {str(i): a for i, a in enumerate(arrays)}


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"checkpoint": "sqrt"}, {"lengths": 1}])
@pytest.mark.parametrize("point", SHAPES)
@pytest.mark.parametrize("cell", CELLS)
def test_as_exact_as_documented(cell: str, point: Point, options: Any, bf16_isa: str) -> None:
    if "lengths" in options:
        options = {"lengths": np.random.default_rng(0).integers(0, point.T + 1, point.B)}
    want = results(cell, point, **options)
    got = results(cell, point, compute="bf16", **options)
    errors = {name: error(got[name], want[name]) for name in want}
    gates = cell != "rnn"  # which the errors pass, instead of going through one tanh a step
    assert max(errors.values()) < (8e-3 if gates else 1e-2), errors
    if gates and point == POINTS["small"]:
        assert max(errors.values()) < 5e-3, errors
    assert max(errors.values()) > 1e-4  # in bfloat16 indeed
    for threads in (1, 2, 5):
        same = results(cell, point, threads, compute="bf16", **options)
        assert all(np.array_equal(same[name], got[name]) for name in got)


@pytest.mark.parametrize("cell", CELLS)
def test_a_stream_gives_the_bits_of_the_whole(cell: str, bf16_isa: str) -> None:
    layer = getattr(bptt, cell.upper())(5, 40, seed=0, compute="bf16")
    x = np.random.default_rng(0).standard_normal((40, 2, 5)).astype(np.float32)
    y, _ = layer(x)
    stream = layer.stream(2)
    assert np.array_equal(np.concatenate([stream.process(x[:3]), stream.process(x[3:])]), y)
    exact = getattr(bptt, cell.upper())(5, 40, seed=0)(x)[0]
    assert 1e-5 < error(y, exact) < 5e-3


def test_infinite_and_nan_stay_in_their_sequence(bf16_isa: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 20, 7)).astype(np.float32)
    layer = bptt.LSTM(7, 24, seed=0, compute="bf16")
    want = layer(x)[0]
    x[2, 3, 1], x[4, 18, 5] = np.nan, np.inf
    got = layer(x)[0]
    others = [b for b in range(20) if b not in (3, 18)]
    assert np.array_equal(got[:, others], want[:, others])
    assert np.isnan(got[2:, 3]).all()


def test_it_trains_as_float32_does(bf16_isa: str) -> None:
    """Adding, T = 100 (Hochreiter & Schmidhuber, 1997), the same numbers in both precisions."""

    test_x, test_target, baseline = bptt.tasks.adding(100, 500, seed=1)

    def train(compute: str | None) -> float:
        rng = np.random.default_rng(0)
        layer = bptt.LSTM(2, 32, seed=0, compute=compute)
        bptt.init.chrono(layer, 100, 0)
        model = Reader(layer, 1, seed=0)
        optimizer = bptt.Adam(model.parameters, lr=1e-2)
        for _ in range(500):
            x, target, _ = bptt.tasks.adding(100, 64, rng)
            _, grads = model.gradients(Batch(x, target[:, None]), bptt.mse)
            bptt.clip_grad_norm(grads, 1.0)
            optimizer.step(grads)
        return bptt.mse(model(test_x), test_target[:, None])[0]

    exact, rounded = train(None), train("bf16")
    assert exact < 0.02 < baseline
    assert rounded < 0.02


def test_where_there_is_none() -> None:
    code = (
        "import bptt, numpy as np\n"
        "x, w = np.ones((2, 1, 1), 'f'), np.ones((1, 1), 'f')\n"
        "a = bptt.rnn_forward(x, w, w, compute='bf16_if_available')[0]\n"
        "assert (a == bptt.rnn_forward(x, w, w)[0]).all()\n"
        "assert bptt.show_config()['bf16'] is False\n"
        "bptt.LSTM(1, 1, compute='bf16_if_available')(x)\n"
        "for call in (lambda: bptt.rnn_forward(x, w, w, compute='bf16'),\n"
        "             lambda: bptt.LSTM(1, 1, compute='bf16')):\n"
        "    try: call()\n"
        "    except ValueError as error: print(error)\n"
    )
    isa = next((isa for isa in _core.isas() if isa not in ("amx", "avx512bf16")), "")
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"BPTT_ISA": isa, "PATH": ""},
        check=False,
    )
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["rnn_forward", "LSTM"]
    assert all(f"compute is 'bf16', which the instruction set {isa} has no" in x for x in lines)


def test_show_config_tells(bf16_isa: str) -> None:
    assert bptt.show_config()["bf16"] is True


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("compute is 'half', expected one of", lambda: bptt.GRU(2, 3, compute="half")),
        (
            "rnn_forward: compute is 'fp16'",
            lambda: bptt.rnn_forward([[[1.0]]], [[1.0]], [[1.0]], compute="fp16"),
        ),
    ],
)
def test_errors(message: str, call: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_float64_has_no_bf16(bf16_isa: str) -> None:
    with pytest.raises(ValueError, match="expected float32"):
        bptt.LSTM(2, 3, dtype="float64", compute="bf16")
    x, w = np.ones((2, 1, 1)), np.ones((1, 1))
    with pytest.raises(ValueError, match="expected float32"):
        bptt.rnn_forward(x, w, w, compute="bf16")
    exact = bptt.rnn_forward(x, w, w)[0]
    assert np.array_equal(bptt.rnn_forward(x, w, w, compute="bf16_if_available")[0], exact)


def test_options_without_kernels_compute_in_float32_if_that_is_allowed(bf16_isa: str) -> None:
    x, w_ih, w_hh = (np.ones(s, "float32") for s in ((3, 2, 4), (20, 4), (20, 5)))
    for options in ({"zoneout": 0.5}, {"activation": "relu"}, {"cell_clip": 1.0}):
        with pytest.raises(ValueError, match="compute is bf16, which lstm has no kernels for"):
            bptt.lstm_forward(x, w_ih, w_hh, compute="bf16", **options)
        y, _, _ = bptt.lstm_forward(x, w_ih, w_hh, compute="bf16_if_available", **options)
        want, _, _ = bptt.lstm_forward(x, w_ih, w_hh, **options)
        assert np.array_equal(y, want)
    resets = np.zeros((3, 2), bool)
    bptt.lstm_forward(x, w_ih, w_hh, compute="bf16", resets=resets)
