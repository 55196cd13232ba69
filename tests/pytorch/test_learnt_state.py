# SPDX-License-Identifier: MIT
"""A learnt initial state, which also begins the sequences after resets, in `bptt.torch.Layer`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import bptt
import bptt.torch
from support.compare import assert_close

T, B, I, H = 6, 3, 2, 3
KINDS = {"RNN": bptt.RNN, "LSTM": bptt.LSTM, "GRU": bptt.GRU, "MGU": bptt.MGU}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bidirectional": {"bidirectional": True, "num_layers": 2},
    "reverse": {"reverse": True},
    "batch first": {"batch_first": True, "num_layers": 2, "residual": True},
    "layer norm": {"layer_norm": True, "bidirectional": True, "batch_first": True},
}
LENGTHS = np.array([4, 6, 1])
RESETS = np.zeros((T, B), np.bool_)
RESETS[[0, 2, 3, 5, 5], [1, 0, 1, 1, 2]] = True  # the last one in the padding
every_kind = pytest.mark.parametrize("kind", KINDS)
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def made(kind: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """A module with a random learnt state, and its input."""
    layer = KINDS[kind](I, H, learn_state=True, dtype="float64", seed=0, **options)
    module = bptt.torch.Layer(layer)
    rng = torch.Generator().manual_seed(1)
    for p in module.parameters():
        p.data.normal_(0, 0.5, generator=rng)
    shape = (B, T, I) if layer.batch_first else (T, B, I)
    return module, torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_()


def extras(layer: Any, what: str) -> dict[str, Any]:
    resets = RESETS.T if layer.batch_first else RESETS
    return {n: v for n, v in (("lengths", LENGTHS), ("resets", resets)) if n in what}


def flat(y: Any, final: Any) -> list[Any]:
    return [y, *(final if isinstance(final, tuple) else [final])]


@pytest.mark.parametrize("what", ["", "lengths", "resets", "lengths and resets"])
@every_option
@every_kind
def test_gradients_of_the_layer(kind: str, options: dict[str, Any], what: str) -> None:
    module, x = made(kind, options)
    layer, more = module.layer, extras(module.layer, what)
    outputs = flat(*module(x, **more))
    y, final, tape = layer.forward(x.detach().numpy(), **more)
    want = flat(y, final)
    rng = np.random.default_rng(2)
    cotangents = [rng.standard_normal(w.shape) for w in want]
    dstate = cotangents[1] if len(cotangents) == 2 else tuple(cotangents[1:])
    grads = layer.backward(tape, cotangents[0], dstate)
    names = dict(module.named_parameters())
    found = torch.autograd.grad(
        outputs, [x, *names.values()], [torch.from_numpy(c) for c in cotangents]
    )
    assert_close(
        {f"output {k}": o.detach().numpy() for k, o in enumerate(outputs)}
        | {n: g.numpy() for n, g in zip(("x", *names), found)},
        {f"output {k}": w for k, w in enumerate(want)} | {"x": grads.x} | grads.params,
        1e-12,
    )


@pytest.mark.parametrize("what", ["resets", "lengths and resets"])
@every_option
@every_kind
def test_finite_differences(kind: str, options: dict[str, Any], what: str) -> None:
    module, x = made(kind, options)
    more = extras(module.layer, what)

    def results(x: Any, *_: Any) -> tuple[Any, ...]:
        return tuple(flat(*module(x, **more)))

    assert torch.autograd.gradcheck(results, (x, *module.parameters()), fast_mode=True)


@every_option
def test_packed_sequence(options: dict[str, Any]) -> None:
    module, x = made("LSTM", options)
    first, lengths = module.layer.batch_first, torch.from_numpy(LENGTHS)
    packed, final = module(pack_padded_sequence(x, lengths, first, enforce_sorted=False))
    y, _ = pad_packed_sequence(packed, first)
    torch.testing.assert_close((y, final), module(x, lengths=lengths))
