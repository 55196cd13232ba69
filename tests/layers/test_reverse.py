# SPDX-License-Identifier: MIT
"""Layers that read each sequence from its end: the same as a forward layer on turned sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bptt

T, B, I, H = 7, 4, 3, 5
LENGTHS = np.array([7, 3, 0, 5])
LAYERS = [bptt.RNN, bptt.LSTM, bptt.GRU, bptt.MGU, bptt.SLSTM, bptt.LSTM1997]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 3, "residual": True},
    {"num_layers": 2, "batch_first": True, "dtype": "float64"},
    {"dilation": 2, "skip": 2},
]


def turned(a: Any, lengths: Any, batch_first: bool = False) -> Any:
    """Each sequence from its last step to its first; the padding stays where it is."""
    a = a.swapaxes(0, 1) if batch_first else a
    out = a.copy()
    for b, n in enumerate(lengths):
        out[:n, b] = a[:n, b][::-1]
    return out.swapaxes(0, 1) if batch_first else out


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["equal", "ragged"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_it_is_a_forward_layer_on_turned_sequences(kind: Any, options: Any, lengths: Any) -> None:
    layer, forward = (kind(I, H, reverse=r, seed=0, **options) for r in (True, False))
    assert list(layer.parameters) == list(forward.parameters)
    first = bool(options.get("batch_first"))
    rng = np.random.default_rng(1)
    x = rng.standard_normal((B, T, I) if first else (T, B, I))
    dy = rng.standard_normal((B, T, H) if first else (T, B, H))
    n = np.full(B, T) if lengths is None else lengths
    y, state, tape = layer.forward(x, lengths=lengths)
    z, last, other = forward.forward(turned(x, n, first), lengths=lengths)
    if lengths is not None:  # the padding of dy is not read
        dy = turned(turned(dy, n, first), n, first)
    got = layer.backward(tape, dy, trace=True)
    want = forward.backward(other, turned(dy, n, first), trace=True)
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(y, turned(z, n, first), **close)
    for a, b in zip(np.atleast_1d(state), np.atleast_1d(last)):
        np.testing.assert_allclose(a, b, **close)
    np.testing.assert_allclose(got.x, turned(want.x, n, first), **close)
    for name, d in got.params.items():
        np.testing.assert_allclose(d, want.params[name], 1e-3, 1e-4)
    assert np.array_equal(layer(x, lengths=lengths)[0], y)
    assert np.array_equal(layer.prepare()(x, lengths=lengths)[0], y)


def test_it_is_the_second_direction_of_a_bidirectional_layer() -> None:
    both = bptt.LSTM(I, H, bidirectional=True, seed=0)
    layer = bptt.LSTM(I, H, reverse=True)
    layer.load({k.removesuffix("_reverse"): a for k, a in both.parameters.items() if "rev" in k})
    x = np.random.default_rng(0).standard_normal((T, B, I)).astype("f")
    resets = np.random.default_rng(1).random((T, B)) < 0.3
    for lengths in (None, LENGTHS):
        y, (h, c) = both(x, lengths=lengths, resets=resets)
        mine, (mine_h, mine_c) = layer(x, lengths=lengths, resets=resets)
        assert np.array_equal(mine, y[:, :, H:])
        assert np.array_equal(mine_h, h[1:])
        assert np.array_equal(mine_c, c[1:])
        prepared = layer.prepare()(x, lengths=lengths, resets=resets)
        assert np.array_equal(prepared[0], mine)


def test_layers_that_alternate_equal_torch() -> None:
    """Of scrappie and others: backward, forward, backward."""
    torch = pytest.importorskip("torch")
    layers = [bptt.GRU(I if k == 0 else H, H, reverse=k % 2 == 0, seed=k) for k in range(3)]
    x = np.random.default_rng(0).standard_normal((T, B, I)).astype("f")
    tapes, y = [], x
    for layer in layers:
        y, _, tape = layer.forward(y)
        tapes.append(tape)
    d = np.ones_like(y)
    grads: list[Any] = []
    for layer, tape in zip(layers[::-1], tapes[::-1]):
        grads.insert(0, layer.backward(tape, d))
        d = grads[0].x
    modules = []
    a = first = torch.from_numpy(x).requires_grad_()
    for layer in layers:
        module = torch.nn.GRU(layer.input_size, H)
        module.load_state_dict({k: torch.from_numpy(v) for k, v in layer.parameters.items()})
        modules.append(module)
        a = module(a.flip(0))[0].flip(0) if layer.reverse else module(a)[0]
    a.sum().backward()
    np.testing.assert_allclose(y, a.detach().numpy(), 1e-4, 1e-5)
    np.testing.assert_allclose(d, first.grad.numpy(), 1e-4, 1e-5)
    for g, module in zip(grads, modules):
        for name, p in module.named_parameters():
            np.testing.assert_allclose(g.params[name], p.grad.numpy(), 1e-3, 1e-4)


def test_tools_see_the_direction() -> None:
    x = np.random.default_rng(0).standard_normal((30, 4, 3))
    reports = []
    for reverse in (False, True):
        layer = bptt.GRU(3, 8, reverse=reverse, dtype="float64", seed=0)
        reports.append(bptt.gradient_flow(layer, x[::-1] if reverse else x).cells[0])
    np.testing.assert_allclose(reports[1].curve.norms, reports[0].curve.norms, 1e-9)


def test_a_derivative_of_the_gradient() -> None:
    x, v = np.random.default_rng(0).standard_normal((2, T, B, I))
    found = []
    for reverse in (True, False):
        layer = bptt.LSTM(I, H, reverse=reverse, dtype="float64", seed=0)
        a, b = (x, v) if reverse else (x[::-1].copy(), v[::-1].copy())
        _, along = bptt.layer_hvp(layer, a, {"x": b}, dy=np.ones((T, B, H)))
        found.append(along)
    np.testing.assert_allclose(found[0].x, found[1].x[::-1], 1e-9, 1e-12)
    for name, d in found[0].params.items():
        np.testing.assert_allclose(d, found[1].params[name], 1e-9, 1e-12)


def test_refused() -> None:
    with pytest.raises(ValueError, match="GRU: reverse is True, expected False with bidirect"):
        bptt.GRU(2, 3, bidirectional=True, reverse=True)
    with pytest.raises(TypeError, match="LSTM: reverse is 1, expected True or False"):
        bptt.LSTM(2, 3, reverse=1)  # type: ignore[arg-type]
    layer = bptt.RNN(2, 3, reverse=True, seed=0)
    with pytest.raises(ValueError, match=r"RNN\.stream: the layer has reverse=True, expected Fal"):
        layer.stream()
    x = np.ones((4, 1, 2))
    with pytest.raises(ValueError, match="tbptt: the layer has reverse=True, expected False"):
        bptt.tbptt(layer, x, 2, 2)
    with pytest.raises(ValueError, match=r"omega: tape is that of RNN\(2, 3, reverse=True\)"):
        bptt.regularise.omega(layer.forward(x)[2])
    with pytest.raises(ValueError, match=r"flossing: tape is that of RNN\(2, 3, reverse=True\)"):
        bptt.regularise.flossing(layer.forward(x)[2], 2)
    with pytest.raises(ValueError, match="has reverse=True, expected False: RTNeural"):
        bptt.save_rtneural("never.json", [bptt.GRU(2, 3, reverse=True)])
