# SPDX-License-Identifier: MIT
"""`gradient_flow` of a `Sequential` is that of its recurrent layer."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import bptt

V, E, H, T, B = 9, 4, 6, 30, 3
LENGTHS = [30, 12, 5]


def made() -> Any:
    return bptt.Sequential(
        bptt.Embedding(V, E, seed=0), bptt.Dropout(0.3, seed=1), bptt.LSTM(E, H, 2, seed=2),
        bptt.Dropout(0.5, seed=3), bptt.Last(), bptt.Linear(H, 2, seed=4),
    )  # fmt: skip


@pytest.mark.parametrize("how", ["last", "every", "loss", "dy"])
def test_it_is_the_report_on_the_layer_and_its_input(how: str) -> None:
    model = made()
    ids = np.random.default_rng(0).integers(0, V, (T, B))
    embedding, dropped, lstm, above, last, head = copy.deepcopy(model).layers
    features = dropped.forward(embedding(ids))[0]
    y = copy.deepcopy(lstm).forward(features, lengths=LENGTHS)[0]
    a, t_a = above.forward(y)
    b, t_b = last.forward(a, LENGTHS)
    out, t_c = head.forward(b)
    value, d_out = bptt.cross_entropy(out, [0, 1, 0])
    dy = above.backward(t_a, last.backward(t_b, head.backward(t_c, d_out).x).x).x
    mine = {"loss": {"loss": lambda z: bptt.cross_entropy(z, [0, 1, 0])}, "dy": {"dy": d_out}}
    report = bptt.gradient_flow(model, ids, lengths=LENGTHS, **mine.get(how, {"loss": how}))
    of_layer = {"dy": dy} if how in mine else {"loss": how}
    want = bptt.gradient_flow(lstm, features, lengths=LENGTHS, **of_layer)
    assert report.norms == want.norms
    assert report.verdicts == want.verdicts
    assert report.model == want.model
    assert report.value == (value if how == "loss" else None)
    assert model.state_dict()["1.masks"][1] == 0  # the model has counted no call


def test_a_model_with_several_recurrent_layers_is_refused() -> None:
    model = bptt.Sequential(bptt.GRU(E, H), bptt.LSTM(H, H))
    with pytest.raises(ValueError, match="layer 0, GRU, layer 1, LSTM, expected one"):
        bptt.gradient_flow(model, np.ones((T, B, E)))
