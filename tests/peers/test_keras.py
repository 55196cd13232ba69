# SPDX-License-Identifier: MIT
"""The functions equal Keras's layers on its PyTorch backend: results and gradients.

Keras takes products of float64 in float32, so all of it is float32 there.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import reference
from support.compare import TOLERANCE, assert_close
from support.problems import Case, flat, problem, results

os.environ.setdefault("KERAS_BACKEND", "torch")
torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")
if keras.backend.backend() != "torch":
    pytest.skip("Keras has another backend than torch", allow_module_level=True)

LAYERS = {"rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}
# Keras's gates, as indices of ours.
ORDER = {"rnn": [0], "lstm": [0, 1, 2, 3], "gru": [1, 0, 2]}
HARD = {"gate_activation": "hard_sigmoid"}
# `activation` is Keras's of the candidate and of what an LSTM puts out.
RELU = {"activation": "relu", "output_activation": "relu"}
IDENTITY = {"activation": "identity", "output_activation": "identity"}
CASES = [
    Case("rnn", "rnn", {}),
    *(Case(f"rnn-{a}", "rnn", {"activation": a}) for a in ("relu", "leaky_relu", "sigmoid")),
    Case("rnn-reverse", "rnn", {"activation": "identity", "reverse": True}),
    Case("lstm", "lstm", {}),
    Case("lstm-reverse", "lstm", {"reverse": True}),
    Case("lstm-hard", "lstm", HARD),
    Case("lstm-relu", "lstm", RELU),
    Case("lstm-hard-identity", "lstm", {**HARD, **IDENTITY}),
    Case("gru-after", "gru", {}),
    Case("gru-before", "gru", {"reset_after": False}),
    Case("gru-before-reverse", "gru", {"reset_after": False, "reverse": True}),
    Case("gru-after-hard-relu", "gru", {**HARD, "activation": "relu"}),
    Case("gru-before-hard-relu", "gru", {**HARD, "activation": "relu", "reset_after": False}),
]
NAMES = {"identity": "linear"}


def reorder(a: Any, cell: str) -> Any:
    """Gates, stacked on axis 0, in the other library's order."""
    blocks = np.split(a, len(ORDER[cell]))
    return np.concatenate([blocks[k] for k in ORDER[cell]])


def arrays_of_keras(c: Any) -> list[Any]:
    """Kernel, recurrent kernel, bias."""
    w_ih, w_hh, b_ih, b_hh = (
        reorder(c.arrays[k], c.cell) for k in ("w_ih", "w_hh", "b_ih", "b_hh")
    )
    two = c.cell == "gru" and c.options.get("reset_after", True)
    return [w_ih.T, w_hh.T, np.stack([b_ih, b_hh]) if two else b_ih + b_hh]


def layer_of(c: Any) -> Any:
    o, H = c.options, c.dy.shape[-1]
    activation = NAMES.get(o.get("activation", "tanh"), o.get("activation", "tanh"))
    given: dict[str, Any] = {"activation": activation, "go_backwards": o.get("reverse", False)}
    if activation == "leaky_relu":  # its own slope is 0.2
        given["activation"] = lambda a: keras.activations.leaky_relu(a, 0.01)
    if c.cell != "rnn":
        given["recurrent_activation"] = o.get("gate_activation", "sigmoid")
    if c.cell == "gru":
        given["reset_after"] = o.get("reset_after", True)
    layer = getattr(keras.layers, LAYERS[c.cell])(
        H, return_sequences=True, return_state=True, **given
    )
    layer.build((None, None, c.arrays["x"].shape[-1]))
    layer.set_weights(arrays_of_keras(c))
    return layer


def leaf(a: Any) -> Any:
    return torch.tensor(a, dtype=torch.float32, requires_grad=True)


def keras_results(c: Any) -> dict[str, Any]:
    """Named as in `problems.results`. Both biases have the gradient of their sum."""
    layer = layer_of(c)
    x = leaf(c.arrays["x"].swapaxes(0, 1))
    state = [leaf(s) for s in flat(c.arrays["state"])]
    y, *final = layer(x, initial_state=state)
    y = y.flip(1) if c.options.get("reverse") else y  # Keras leaves it in the order of processing
    loss = (y * leaf(c.dy.swapaxes(0, 1))).sum()
    loss = loss + sum((f * leaf(d)).sum() for f, d in zip(final, flat(c.dstate)))
    weights = [w.value for w in layer.trainable_weights]
    dx, *grads = (g.numpy() for g in torch.autograd.grad(loss, [x, *state, *weights]))
    dstate, (dw_ih, dw_hh, db) = grads[: len(state)], grads[len(state) :]
    db_ih, db_hh = db if db.ndim == 2 else (db, db)
    found = {"y": y.detach().numpy().swapaxes(0, 1), "d x": dx.swapaxes(0, 1)}
    for k, (f, d) in enumerate(zip(final, dstate)):
        found |= {f"state[{k}]": f.detach().numpy(), f"d state[{k}]": d}
    named = {"w_ih": dw_ih.T, "w_hh": dw_hh.T, "b_ih": db_ih, "b_hh": db_hh}
    return found | {f"d {name}": reorder(g, c.cell) for name, g in named.items()}


@pytest.mark.parametrize("module", [reference, bptt], ids=lambda m: m.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_results_are_those_of_keras(case: Case, module: Any) -> None:
    for seed, shape in enumerate([(7, 3, 4, 5), (1, 1, 2, 3), (12, 2, 3, 9)]):
        c = problem(case, shape, seed=seed)
        assert_close(results(module, c), keras_results(c), TOLERANCE["float32"])
