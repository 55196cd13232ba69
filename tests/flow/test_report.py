# SPDX-License-Identifier: MIT
"""Reports on the gradient flow: their numbers against autograd and closed forms."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import init

torch = pytest.importorskip("torch")

T, B, SIZE, HIDDEN = 60, 5, 4, 12
X = np.random.default_rng(0).standard_normal((T, B, SIZE)).astype(np.float32)
KINDS = {
    "tanh": lambda **how: torch.nn.RNN(SIZE, HIDDEN, **how),
    "relu": lambda **how: torch.nn.RNN(SIZE, HIDDEN, nonlinearity="relu", **how),
    "lstm": lambda **how: torch.nn.LSTM(SIZE, HIDDEN, **how),
    "gru": lambda **how: torch.nn.GRU(SIZE, HIDDEN, **how),
}


def made(kind: str, **how: Any) -> Any:
    torch.manual_seed(1)
    return KINDS[kind](**how)


# --- by hand: PyTorch's cells, step by step in float64 --------------------------------------------


def norms_by_lag(module: Any, x: np.ndarray, suffix: str = "_l0", reverse: bool = False) -> Any:
    """||dL/dh_t|| and ||dL/dc_t|| of every step, for L = <v, h_T> with v in all directions.

    Returns a function of v, (B, H), so that the caller chooses the gradient that enters.
    """
    state = {k: v.detach().double() for k, v in module.state_dict().items()}
    gated = {"LSTM": torch.nn.LSTMCell, "GRU": torch.nn.GRUCell}.get(module.mode)
    w_ih = state[f"weight_ih{suffix}"]
    how = {} if gated else {"nonlinearity": module.mode.removeprefix("RNN_").lower()}
    cell = (gated or torch.nn.RNNCell)(w_ih.shape[1], module.hidden_size, **how).double()
    cell.load_state_dict(
        {k: state[f"{k}{suffix}"] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    )

    def norms(v: np.ndarray) -> dict[str, np.ndarray]:
        h = torch.zeros(x.shape[1], module.hidden_size, dtype=torch.float64)
        carried, kept = (h, torch.zeros_like(h)), {"h": [], "c": []}
        order = range(len(x))[::-1] if reverse else range(len(x))
        for t in order:
            inputs = torch.tensor(x[t], dtype=torch.float64)
            out = cell(inputs, carried if module.mode == "LSTM" else carried[0])
            carried = out if module.mode == "LSTM" else (out, out)
            for name, value in zip("hc", carried):
                value.retain_grad()
                kept[name].append(value)
        (carried[0] * torch.tensor(v)).sum().backward()
        states = "hc" if module.mode == "LSTM" else "h"
        return {
            s: np.array([np.sqrt((a.grad.numpy() ** 2).sum() / x.shape[1]) for a in kept[s]])[::-1]
            for s in states
        }

    return norms


def horizon_by_hand(norms: np.ndarray) -> float:
    """Where log(norm) crosses log(norm[1] / 100), by a straight line between two lags."""
    logs = np.log(norms)
    level = logs[1] + math.log(0.01)
    k = next((k for k in range(2, len(norms)) if logs[k] <= level), None)
    return math.inf if k is None else k - 1 + (logs[k - 1] - level) / (logs[k - 1] - logs[k])


def entering(report_seed: int, k: int, width: int = HIDDEN) -> np.ndarray:
    """The documented unit vectors."""
    u = np.random.default_rng((report_seed, k)).standard_normal((B, width))
    return u / np.linalg.norm(u, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_torch_layers_against_autograd_by_hand(kind):
    module = made(kind)
    report = bptt.gradient_flow(module, X)
    (cell,) = report.cells
    by_hand = norms_by_lag(module, X)(entering(0, 0))
    assert cell.curves.keys() == by_hand.keys()
    for state, norms in by_hand.items():
        curve = cell.curves[state]
        safe = norms > 1e-30
        np.testing.assert_allclose(curve.norms[safe], norms[safe], rtol=2e-3)
        assert curve.horizon == pytest.approx(horizon_by_hand(norms), rel=2e-3)
        slope = np.polyfit(np.arange(1, T)[safe[1:]], np.log(norms[1:][safe[1:]]), 1)[0]
        assert curve.factor == pytest.approx(math.exp(slope), rel=0.03)
        assert curve.tenfold == pytest.approx(-math.log(10) / math.log(curve.factor))
    assert report.verdict == "vanishing"
    said = re.search(r"shrinks 10x every ([\d.]+) steps", report.verdicts[0])
    assert said
    assert float(said[1]) == pytest.approx(cell.curve.tenfold, rel=0.005)


def test_what_no_library_shows():
    """torch.nn.RNN(4, 16) as it starts, 200 steps: dL/dW_hh looks healthy, dL/dh_0 is exactly 0."""
    torch.manual_seed(0)
    module = torch.nn.RNN(4, 16)
    x = np.random.default_rng(0).standard_normal((200, 32, 4)).astype(np.float32)
    dy = np.zeros((200, 32, 16), np.float32)
    dy[-1] = 1  # y[-1].sum()
    report = bptt.gradient_flow(module, x, dy)
    tensor = torch.tensor(x)
    module(tensor)[0][-1].sum().backward()
    expected = module.weight_hh_l0.grad.norm().item()
    assert report.norms["weight_hh_l0"] == pytest.approx(expected, rel=1e-5)
    assert expected > 1
    assert report.cells[0].first == 0.0
    assert report.cells[0].dh[-1] == pytest.approx(math.sqrt(32 * 16))
    assert "to exactly zero before t = " in report.verdicts[0]
    assert "float32 underflow" in report.verdicts[0]
    text = str(report)
    assert re.search(r"\|\|dL/dh\|\| at the first step +0\n", text)
    # The same in float64, whose numbers are far smaller.
    wide = bptt.gradient_flow(module.double(), x.astype(np.float64), dy)
    assert 0 < wide.cells[0].first < 1e-40
    assert wide.dtype == np.float64


@pytest.mark.parametrize("kind", KINDS)
def test_stacked_and_bidirectional(kind):
    how = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    module = made(kind, **how)
    report = bptt.gradient_flow(module, X.swapaxes(0, 1))
    names = ["layer 0", "layer 0, reverse", "layer 1", "layer 1, reverse"]
    assert [c.name for c in report.cells] == names
    # Gradients of the documented loss: each direction of the top layer, at its own last step.
    y = module(torch.tensor(X.swapaxes(0, 1).copy()))[0]
    dy = np.zeros((B, T, 2 * HIDDEN))
    dy[:, -1, :HIDDEN], dy[:, 0, HIDDEN:] = entering(0, 2), entering(0, 3)
    y.backward(torch.tensor(dy, dtype=torch.float32))
    for name, parameter in module.named_parameters():
        assert report.norms[name] == pytest.approx(parameter.grad.norm().item(), rel=1e-4), name
    # Each layer and direction by itself, over the output of the layer below.
    below = torch.nn.Module.__call__(_first_layer(module), torch.tensor(X))[0].detach().numpy()
    for k, cell in enumerate(report.cells):
        x = below if cell.layer else X
        suffix = f"_l{cell.layer}" + "_reverse" * cell.reverse
        by_hand = norms_by_lag(module, x, suffix, cell.reverse)(entering(0, k))
        for state, norms in by_hand.items():
            safe = norms > 1e-30
            np.testing.assert_allclose(cell.curves[state].norms[safe], norms[safe], rtol=5e-3)


def _first_layer(module: Any) -> Any:
    kind = type(module)
    how = {"nonlinearity": "relu"} if module.mode == "RNN_RELU" else {}
    first = kind(SIZE, HIDDEN, bidirectional=True, **how)
    first.load_state_dict({k: v for k, v in module.state_dict().items() if "_l0" in k})
    return first


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projection_without_bias():
    torch.manual_seed(0)
    module = torch.nn.LSTM(SIZE, HIDDEN, bias=False, proj_size=5)
    report = bptt.gradient_flow(module, X)
    dy = np.zeros((T, B, 5), np.float32)
    dy[-1] = entering(0, 0, 5)
    module(torch.tensor(X))[0].backward(torch.tensor(dy))
    for name, parameter in module.named_parameters():
        assert report.norms[name] == pytest.approx(parameter.grad.norm().item(), rel=1e-4)
    assert report.verdict == "vanishing"


# --- closed forms ---------------------------------------------------------------------------------


def linear(scale: float, **how: Any) -> bptt.RNN:
    """h_t = W_ih x_t + scale Q h_{t-1}, Q orthogonal: one step back scales a gradient exactly."""
    rnn = bptt.RNN(SIZE, HIDDEN, activation="identity", dtype="float64", seed=0, **how)
    init.orthogonal(rnn.parameters["weight_hh_l0"], 0, scale)
    return rnn


@pytest.mark.parametrize("scale", [0.5, 0.9, 1.3])
def test_a_linear_model_has_exact_numbers(scale):
    report = bptt.gradient_flow(linear(scale), X)
    (cell,) = report.cells
    np.testing.assert_allclose(cell.curve.norms, scale ** np.arange(T), rtol=1e-10)
    assert cell.curve.factor == pytest.approx(scale, rel=1e-10)
    assert cell.curve.tenfold == pytest.approx(abs(math.log(10) / math.log(scale)))
    assert cell.radius == pytest.approx(scale)
    assert cell.bound == pytest.approx(scale)
    if scale < 1:
        assert report.verdict == "vanishing"
        horizon = 1 + math.log(0.01) / math.log(scale)
        assert cell.curve.horizon == pytest.approx(horizon)
        assert f"steps before t = {T - 1 - math.floor(horizon)} " in report.verdicts[0]
    else:
        assert report.verdict == "exploding"
        assert cell.curve.horizon == math.inf
        assert cell.curve.growth == pytest.approx(scale ** (T - 2))
    assert f"10x every {abs(math.log(10) / math.log(scale)):.3g} steps" in report.verdicts[0]


@pytest.mark.parametrize("cotangent", ["last", "every"])
def test_shares_are_those_of_the_steps_alone(cotangent):
    """Brute force: the gradient of W_hh at one step, with a copy of W_hh for each step."""
    rnn = bptt.RNN(SIZE, HIDDEN, dtype="float64", seed=0)
    x = X[:9].astype(np.float64)
    report = bptt.gradient_flow(rnn, x, loss=cotangent)
    p = {k: torch.tensor(v) for k, v in rnn.parameters.items()}
    copies = [p["weight_hh_l0"].clone().requires_grad_() for _ in x]
    h, loss = torch.zeros(B, HIDDEN, dtype=torch.float64), 0
    u = torch.tensor(entering(0, 0))
    for t, w_hh in enumerate(copies):
        h = torch.tanh(torch.tensor(x[t]) @ p["weight_ih_l0"].T + p["bias_ih_l0"] + p["bias_hh_l0"]
                       + h @ w_hh.T)  # fmt: skip
        loss = loss + (h * u).sum() * (cotangent == "every" or t == len(x) - 1)
    loss.backward()
    parts = np.array([w.grad.numpy() for w in copies])
    whole = parts.sum(0)
    expected = (parts * whole).sum((1, 2)) / (whole**2).sum()
    share = report.cells[0].share
    np.testing.assert_allclose(share[::-1], expected, atol=1e-12)
    assert share.sum() == pytest.approx(1, abs=1e-12)
    assert report.cells[0].tenth(last=True) == pytest.approx(expected[-1])
    assert report.cells[0].tenth(last=False) == pytest.approx(expected[0], abs=1e-12)


def test_sequences_of_different_lengths():
    lengths = np.array([T, 7, 0, 30, 1])
    rnn = bptt.RNN(SIZE, HIDDEN, dtype="float64", seed=0)
    report = bptt.gradient_flow(rnn, X, lengths=lengths)
    (cell,) = report.cells
    norms, whole, parts = {}, 0.0, []
    u = entering(0, 0)
    for b in np.flatnonzero(lengths):  # each sequence alone
        n = lengths[b]
        y, _, tape = bptt.rnn_forward(X[:n, b : b + 1].astype(float), *rnn.parameters.values())
        dy = np.zeros_like(y)
        dy[-1] = u[b]
        grads = bptt.rnn_backward(tape, dy, trace="full")
        norms[b] = grads.trace.dh[::-1]
        whole = whole + grads.w_hh
        parts.append(_by_step(grads, y))
    linked = [1.0]
    for k in range(1, T):  # from one lag to the next, of those that have both
        both = [norm for norm in norms.values() if len(norm) > k]
        linked.append(
            linked[-1] * math.sqrt(sum(n[k] ** 2 for n in both) / sum(n[k - 1] ** 2 for n in both))
        )
    np.testing.assert_allclose(cell.curve.norms, linked, rtol=1e-9)
    assert cell.first == pytest.approx(math.sqrt(sum(n[-1] ** 2 for n in norms.values())))
    expected = np.zeros(T)
    for part in parts:
        expected[: len(part)] += (part[::-1] * whole).sum((1, 2)) / (whole**2).sum()
    np.testing.assert_allclose(cell.share, expected, atol=1e-12)
    assert f"lags above {math.floor(cell.curve.horizon)} contribute" in report.verdicts[0]
    assert "0 to 60 steps" in str(report)


def _by_step(grads: Any, y: np.ndarray) -> np.ndarray:
    """dL/dW_hh of one sequence of a tanh RNN, by step: d(argument)_t h_{t-1}^T."""
    d = grads.trace.full.dh[:, 0] * (1 - y[:, 0] ** 2)
    before = np.concatenate([np.zeros_like(y[:1, 0]), y[:-1, 0]])
    return d[:, :, None] * before[:, None, :]


def test_a_dilated_layer_is_measured_at_its_own_steps():
    """Every third step: the same model over a third of the steps, three times as slow."""
    x, dilated, plain = X.astype(np.float64), linear(0.6, dilation=3), linear(0.6)
    (cell,) = bptt.gradient_flow(dilated, x).cells
    (other,) = bptt.gradient_flow(plain, x[2::3]).cells
    np.testing.assert_allclose(cell.curve.norms, other.curve.norms, rtol=1e-12)
    assert cell.curve.horizon == pytest.approx(3 * other.curve.horizon)
    assert cell.curve.tenfold == pytest.approx(3 * other.curve.tenfold)
    assert cell.curve.factor == pytest.approx(0.6 ** (1 / 3))
