# SPDX-License-Identifier: MIT
from __future__ import annotations

import re

import numpy as np
import pytest

import bptt
from bptt import Attention, reference
from bptt.derivatives.gradcheck import gradcheck
from support.compare import TOLERANCE, assert_close
from support.complex_step import STEP
from support.problems import make_lengths

KINDS = ["additive", "additive-no-query", "dot", "dot-scale"]
# T, B, H, A, Q: ones, no steps, no sequences, odd ones, many steps.
SHAPES = [
    (1, 1, 1, 1, 1),
    (0, 3, 4, 2, 5),
    (5, 0, 4, 2, 5),
    (7, 4, 5, 3, 2),
    (200, 9, 33, 17, 20),
]
RAGGED = [(5, 3, 4, 3, 2), (4, 1, 2, 2, 3)]


def problem(kind, shape, dtype="float64", seed=0):
    """Arguments of a forward call, its options, and random gradients of its results."""
    T, B, H, A, Q = shape
    rng = np.random.default_rng(seed)

    def normal(*size):
        return rng.standard_normal(size).astype(dtype)

    arrays = {"x": normal(T, B, H)}
    if "dot" in kind:
        arrays |= {"query": normal(B, H)}
    else:
        arrays |= {"w_key": normal(A, H), "w_score": normal(A)}
        if "no-query" not in kind:
            arrays |= {"query": normal(B, Q), "w_query": normal(A, Q), "b": normal(A)}
    options = {"scale": 0.7} if "scale" in kind else {}
    return arrays, options, (normal(B, H), normal(T, B))


def functions(kind, module=bptt):
    name = kind.split("-")[0]
    return [getattr(module, f"{name}_attention_{d}") for d in ("forward", "backward")]


def results(module, kind, arrays, options, cotangents):
    forward, backward = functions(kind, module)
    context, weights, tape = forward(**arrays, **options)
    grads = {f"d {k}": v for k, v in backward(tape, *cotangents)._asdict().items() if v is not None}
    assert list(grads) == [f"d {k}" for k in bptt._grads.AttentionGrads._fields if k in arrays]
    return {"context": context, "weights": weights, **grads}


def complex_step(loss, arrays):
    """Gradients of a function of a dict of arrays, one element at a time."""
    gradients = {}
    for name, array in arrays.items():
        gradients[f"d {name}"] = np.empty(array.shape)
        for index in np.ndindex(array.shape):
            moved = array.astype(complex)
            moved[index] += 1j * STEP
            gradients[f"d {name}"][index] = loss({**arrays, name: moved}).imag / STEP
    return gradients


@pytest.mark.parametrize("lengths", ["any", "none", "full", None])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_results_are_the_references(kind, shape, dtype, lengths):
    arrays, options, cotangents = problem(kind, shape, dtype)
    rng = np.random.default_rng(1)
    options["lengths"] = make_lengths(lengths if shape[1] else "none", *shape[:2], rng)
    got = results(bptt, kind, arrays, options, cotangents)
    assert {v.dtype for v in got.values()} == {np.dtype(dtype)}
    wide = {k: v.astype("f8") for k, v in arrays.items()}
    want = results(reference, kind, wide, options, [d.astype("f8") for d in cotangents])
    assert_close(got, want, TOLERANCE[dtype])


@pytest.mark.parametrize("kind", KINDS)
def test_float32_keeps_its_digits_over_many_steps(kind):
    arrays, options, cotangents = problem(kind, (5000, 2, 16, 4, 4), "float32")
    arrays["x"] += 3  # so that the terms of the query's gradient cancel
    wide = {k: v.astype("f8") for k, v in arrays.items()}
    want = results(bptt, kind, wide, options, [d.astype("f8") for d in cotangents])
    assert_close(results(bptt, kind, arrays, options, cotangents), want, TOLERANCE["float32"])


@pytest.mark.parametrize("lengths", [None, "any"])
@pytest.mark.parametrize("shape", RAGGED, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_complex_step(kind, shape, lengths):
    arrays, options, (dcontext, dweights) = problem(kind, shape)
    options["lengths"] = make_lengths(lengths, *shape[:2], np.random.default_rng(1))
    forward, _ = functions(kind, reference)

    def loss(moved):
        context, weights, _ = forward(**moved, **options)
        return (context * dcontext).sum() + (weights * dweights).sum()

    want = complex_step(loss, arrays)
    for module in (bptt, reference):
        got = results(module, kind, arrays, options, (dcontext, dweights))
        assert_close({k: got[k] for k in want}, want, 1e-12)


def test_gradients_through_a_recurrent_layer_are_those_of_the_complex_step():
    T, B, I, H, lengths = 6, 3, 2, 4, [6, 0, 3]
    rng = np.random.default_rng(0)
    shapes = {"x": (T, B, I), "w_ih": (H, I), "w_hh": (H, H)}
    arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    dcontext = rng.standard_normal((B, H))

    def loss(moved):
        y, h, _ = reference.rnn_forward(**moved, lengths=lengths)
        context, _, _ = reference.dot_attention_forward(y, h, lengths=lengths)
        return (context * dcontext).sum()

    y, h, tape = bptt.rnn_forward(**arrays, lengths=lengths)
    _, _, attention_tape = bptt.dot_attention_forward(y, h, lengths=lengths)
    pooled = bptt.dot_attention_backward(attention_tape, dcontext)
    grads = bptt.rnn_backward(tape, pooled.x, pooled.query)
    got = {f"d {name}": getattr(grads, name) for name in arrays}
    assert_close(got, complex_step(loss, arrays), 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_each_sequence_sum_to_one_over_its_steps(kind):
    arrays, options, _ = problem(kind, (6, 4, 3, 3, 3))
    lengths = [6, 0, 1, 3]
    context, weights, _ = functions(kind)[0](**arrays, **options, lengths=lengths)
    np.testing.assert_allclose(weights.sum(0), [1, 0, 1, 1], rtol=1e-15)
    for b, n in enumerate(lengths):
        assert (weights[:n, b] > 0).all()
        assert (weights[n:, b] == 0).all()
    assert (context[1] == 0).all()
    np.testing.assert_array_equal(context[2], arrays["x"][0, 2])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_never_read_and_gets_no_gradient(kind, dtype):
    arrays, options, (dcontext, dweights) = problem(kind, (6, 4, 3, 3, 3), dtype)
    options["lengths"] = [6, 0, 1, 3]
    padding = np.arange(6)[:, None] >= options["lengths"]
    want = results(bptt, kind, arrays, options, (dcontext, dweights))
    for value in (np.nan, np.finfo(dtype).max):
        for array in (arrays["x"], dweights):
            array[padding] = value
        for array in (arrays.get("query", dcontext), dcontext):
            array[1] = value  # of the empty sequence
        with np.errstate(over="ignore", invalid="ignore"):
            got = results(bptt, kind, arrays, options, (dcontext, dweights))
        for name, array in want.items():
            np.testing.assert_array_equal(got[name], array, err_msg=name)
    assert (got["d x"][padding] == 0).all()
    if "query" in arrays:
        assert (got["d query"][1] == 0).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_huge_scores_choose_one_step(dtype):
    most = np.finfo(dtype).max
    x = np.array([[[-most / 2]], [[most / 2]], [[most / 4]]], dtype)
    forward, backward = functions("dot")
    context, weights, tape = forward(x, np.ones((1, 1), dtype), scale=2)
    np.testing.assert_array_equal(weights[:, 0], [0, 1, 0])
    np.testing.assert_array_equal(context, x[1])
    assert np.isfinite(backward(tape, np.full((1, 1), 1e-3)).x).all()
    equal = np.full((4, 1, 1), most, dtype)
    np.testing.assert_array_equal(forward(equal, np.ones((1, 1), dtype))[1], np.full((4, 1), 0.25))


def test_nan_in_a_valid_step_is_not_hidden():
    x = np.zeros((3, 2, 1))
    x[1, 0] = np.nan
    context, weights, _ = bptt.dot_attention_forward(x, np.ones((2, 1)))
    assert np.isnan(weights[:, 0]).all()
    assert np.isnan(context[0]).all()
    assert np.isfinite(context[1]).all()


@pytest.mark.parametrize("scale", [None, 1.0])
def test_dot_gives_torchs_numbers(scale):
    torch = pytest.importorskip("torch")
    T, B, H, lengths = 9, 4, 5, [9, 1, 4, 7]
    arrays, _, (dcontext, _) = problem("dot", (T, B, H, 1, 1))
    x, query = (torch.tensor(arrays[k], requires_grad=True) for k in ("x", "query"))
    steps = x.transpose(0, 1)  # (B, T, H)
    mask = torch.arange(T)[None, None] < torch.tensor(lengths)[:, None, None]
    expected = torch.nn.functional.scaled_dot_product_attention(
        query[:, None], steps, steps, attn_mask=mask, scale=scale
    )[:, 0]
    expected.backward(torch.tensor(dcontext))
    context, _, tape = bptt.dot_attention_forward(**arrays, scale=scale, lengths=lengths)
    grads = bptt.dot_attention_backward(tape, dcontext)
    got = {"context": context, "d x": grads.x, "d query": grads.query}
    want = {"context": expected.detach(), "d x": x.grad, "d query": query.grad}
    assert_close(got, {k: v.numpy() for k, v in want.items()}, 1e-12)


@pytest.mark.parametrize("with_query", [True, False])
def test_additive_layer_gives_torchs_numbers(with_query):
    torch = pytest.importorskip("torch")
    T, B, H, lengths = 9, 4, 5, [9, 1, 4, 7]
    arrays, _, (dcontext, dweights) = problem("dot", (T, B, H, 1, 1))
    layer = Attention(H, dtype="float64", seed=1)
    p = {k: torch.tensor(v, requires_grad=True) for k, v in layer.parameters.items()}
    x, query = (torch.tensor(arrays[k], requires_grad=True) for k in ("x", "query"))
    a = x @ p["weight_key"].T + p["bias"]
    if with_query:
        a = a + query @ p["weight_query"].T
    scores = torch.tanh(a) @ p["weight_score"]
    padding = torch.arange(T)[:, None] >= torch.tensor(lengths)
    expected_weights = scores.masked_fill(padding, -torch.inf).softmax(0)
    expected = (expected_weights[:, :, None] * x).sum(0)
    torch.autograd.backward(
        [expected, expected_weights], [torch.tensor(dcontext), torch.tensor(dweights)]
    )
    given = arrays["query"] if with_query else None
    context, weights, tape = layer.forward(arrays["x"], given, lengths)
    grads = layer.backward(tape, dcontext, dweights)
    got = {"context": context, "weights": weights, "d x": grads.x, **grads.params}
    want = {"context": expected.detach(), "weights": expected_weights.detach(), "d x": x.grad}
    want |= {k: torch.zeros_like(v) if v.grad is None else v.grad for k, v in p.items()}
    if with_query:
        got["d query"], want["d query"] = grads.query, query.grad
    assert_close(got, {k: v.numpy() for k, v in want.items()}, 1e-12)
    assert list(grads.params) == list(layer.parameters)
    for one, two in zip(layer(arrays["x"], given, lengths), (context, weights)):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("kind", ["additive", "dot"])
def test_layer_passes_gradcheck_and_serves_again(kind):
    arrays, _, (dcontext, dweights) = problem("dot", (4, 2, 3, 1, 1))
    layer = Attention(3, kind, dtype="float64", seed=0)
    gradcheck(layer.forward, layer.backward, arrays, layer.parameters)
    _, weights, tape = layer.forward(**arrays)
    assert not weights.flags.writeable
    first = layer.backward(tape, dcontext, dweights)
    for array in layer.parameters.values():
        array[...] = 0  # the tape has copies
    second = layer.backward(tape, dcontext, dweights)
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_array_equal(first.query, second.query)
    nothing = layer.backward(tape)
    assert not any(np.any(g) for g in (nothing.x, nothing.query, *nothing.params.values()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["additive", "dot"])
def test_precision_is_the_layers(kind, dtype):
    layer = Attention(2, kind, dtype=dtype, seed=0)
    other = "float64" if dtype == "float32" else "float32"
    x, query = np.ones((3, 2, 2), other), np.ones((2, 2), int)
    context, weights, tape = layer.forward(x, query)
    grads = layer.backward(tape, np.ones((2, 2), other))
    arrays = [context, weights, grads.x, grads.query, *grads.params.values()]
    assert {a.dtype for a in arrays} == {np.dtype(dtype)}


def test_the_gradient_reaches_early_steps_directly():
    T, B, H = 200, 3, 16
    x = np.random.default_rng(0).standard_normal((T, B, 2))
    dlast = np.ones((B, H))
    rnn, attention = bptt.RNN(2, H, seed=1), Attention(H, seed=2)
    y, h, tape = rnn.forward(x)
    assert (rnn.backward(tape, dstate=dlast[None]).x[0] == 0).all()  # it underflows on the way
    _, _, attention_tape = attention.forward(y, h[-1])
    pooled = attention.backward(attention_tape, dlast)
    dx = np.abs(rnn.backward(tape, pooled.x, pooled.query[None]).x).max(axis=(1, 2))
    assert dx[0] > 1e-4
    assert dx[0] > dx.max() / 100


def test_it_learns_which_step_to_look_at():
    # The target is the value at the one marked step of 40.
    rng = np.random.default_rng(0)
    rnn, attention = bptt.GRU(2, 16, seed=0), Attention(16, seed=1)
    readout = bptt.Linear(16, 1, seed=2)
    layers = {"rnn": rnn, "attention": attention, "readout": readout}
    optimiser = bptt.Adam(bptt.optim.join(**{k: v.parameters for k, v in layers.items()}), lr=1e-2)
    for _ in range(300):
        marked = rng.integers(0, 40, 32)
        x = np.stack([rng.uniform(-1, 1, (40, 32)), np.arange(40)[:, None] == marked], axis=-1)
        y, _, tape = rnn.forward(x)
        context, weights, attention_tape = attention.forward(y)
        prediction, readout_tape = readout.forward(context)
        loss, d = bptt.mse(prediction[:, 0], x[marked, np.arange(32), 0])
        dreadout = readout.backward(readout_tape, d[:, None])
        dattention = attention.backward(attention_tape, dreadout.x)
        drnn = rnn.backward(tape, dattention.x)
        grads = {"rnn": drnn, "attention": dattention, "readout": dreadout}
        optimiser.step(bptt.optim.join(**{k: v.params for k, v in grads.items()}))
    assert loss < 0.05  # 1/3 without looking
    assert weights[marked, np.arange(32)].mean() > 5 / 40


def test_repr():
    assert repr(Attention(4, "dot", scale=1)) == "Attention(4, kind='dot', scale=1)\n  0 parameters"
    assert repr(Attention(2)).splitlines() == [
        "Attention(2)",
        "  weight_query  (2, 2)",
        "  weight_key    (2, 2)",
        "  bias          (2,)",
        "  weight_score  (2,)",
        "  12 parameters",
    ]


X, Q = np.zeros((4, 3, 2)), np.zeros((3, 2))
W_KEY, W_SCORE = np.zeros((5, 2)), np.zeros(5)
ALL = (X, W_KEY, W_SCORE, Q)
DOT, ADDITIVE = bptt.dot_attention_forward, bptt.additive_attention_forward
ERRORS = [
    (lambda: DOT(Q, Q), ValueError, "dot_attention_forward: x has shape (3, 2), expected three"),
    (lambda: DOT(X, None), TypeError, "dot_attention_forward: query is None, expected an array"),
    (lambda: DOT(X, X), ValueError, "query has shape (4, 3, 2), expected (B, Q) = (3, Q)"),
    (lambda: DOT(X, Q[:2]), ValueError, "query has shape (2, 2), expected (B, Q) = (3, Q)"),
    (lambda: DOT(X, Q[:, :1]), ValueError, "query has shape (3, 1), expected (B, H) = (3, 2)"),
    (lambda: DOT(X * 1j, Q), TypeError, "x has dtype complex128, expected real numbers"),
    (lambda: DOT(X, Q, scale="1"), TypeError, "scale is '1', expected a number"),
    (lambda: DOT(X, Q, scale=np.nan), ValueError, "scale is nan, expected a finite number"),
    (lambda: DOT(X, Q, lengths=[1, 2]), ValueError, "lengths has shape (2,), expected (B,) = (3,)"),
    (lambda: DOT(X, Q, lengths=[1, 5, 0]), ValueError, "lengths has values 0..5, expected 0..T ="),
    (lambda: DOT(X, Q, lengths=[1.0, 2, 0]), TypeError, "lengths has dtype float64, expected int"),
    (
        lambda: ADDITIVE(X, W_KEY.T, W_SCORE),
        ValueError,
        "additive_attention_forward: w_key has shape (2, 5), expected (A, H) = (5, 2)",
    ),
    (lambda: ADDITIVE(X, W_KEY, Q), ValueError, "w_score has shape (3, 2), expected (A,) = (6,)"),
    (lambda: ADDITIVE(*ALL[:3], b=Q), ValueError, "b has shape (3, 2), expected (A,) = (5,)"),
    (lambda: ADDITIVE(*ALL), ValueError, "query is given and w_query is not, expected both or"),
    (
        lambda: ADDITIVE(*ALL[:3], w_query=W_KEY),
        ValueError,
        "w_query is given and query is not, expected both or none",
    ),
    (
        lambda: ADDITIVE(*ALL, W_KEY.T),
        ValueError,
        "w_query has shape (2, 5), expected (A, Q) = (5, 2)",
    ),
    (
        lambda: bptt.dot_attention_backward(DOT(X, Q)[2], X),
        ValueError,
        "dot_attention_backward: dcontext has shape (4, 3, 2), expected (B, H) = (3, 2)",
    ),
    (
        lambda: bptt.dot_attention_backward(DOT(X, Q)[2], Q, Q),
        ValueError,
        "dweights has shape (3, 2), expected (T, B) = (4, 3)",
    ),
    (
        lambda: bptt.additive_attention_backward(DOT(X, Q)[2], Q),
        TypeError,
        "tape is of type DotTape, expected the third result of additive_attention_forward",
    ),
    (lambda: Attention(0), ValueError, "Attention: hidden_size is 0, expected 1 or more"),
    (
        lambda: Attention(2, "general"),
        ValueError,
        "kind is 'general', expected one of ('additive', 'dot')",
    ),
    (lambda: Attention(2, scale=1), ValueError, "scale is 1 with kind 'additive', expected None"),
    (lambda: Attention(2, "dot", scale=[]), TypeError, "Attention: scale is [], expected a number"),
    (lambda: Attention(2, "dot")(X), TypeError, "Attention: query is None, expected an array"),
    (
        lambda: Attention(7)(X),
        ValueError,
        "Attention: x has shape (4, 3, 2), expected (T, B, hidden_size) = (4, 3, 7)",
    ),
    (
        lambda: Attention(2)(X, Q[:, :1]),
        ValueError,
        "Attention: query has shape (3, 1), expected (B, hidden_size) = (3, 2)",
    ),
    (
        lambda: Attention(2).backward(Attention(2, "dot").forward(X, Q)[2], Q),
        TypeError,
        "Attention: tape is DotTape(",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS, ids=[row[-1][:40] for row in ERRORS])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()
