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


def several(frozen: bool = False) -> Any:
    model = bptt.Sequential(
        bptt.Embedding(V, E, seed=0), bptt.GRU(E, H, 2, dropout=0.3, bidirectional=True, seed=1),
        bptt.Dropout(0.4, seed=2), bptt.LayerNorm(2 * H), bptt.LSTM(2 * H, H, seed=3),
        bptt.RNN(H, 5, seed=4), bptt.MeanPool(), bptt.Linear(5, 2, seed=5),
    )  # fmt: skip
    model.frozen = model.parameters if frozen else ()
    return model


@pytest.mark.parametrize("how", ["last", "every", "loss", "dy"])
def test_several_recurrent_layers_are_reported_with_the_gradient_that_reaches_each(
    how: str,
) -> None:
    ids = np.random.default_rng(0).integers(0, V, (T, B))
    embedding, gru, dropped, norm, lstm, rnn, pool, head = several().layers
    a = embedding(ids)
    before = copy.deepcopy(gru)
    b = gru.forward(a, None, LENGTHS)[0]
    c, t_c = dropped.forward(b)
    d, t_d = norm.forward(c)
    e, _, t_e = lstm.forward(d, None, LENGTHS)
    f, _, t_f = rnn.forward(e, None, LENGTHS)
    g, t_g = pool.forward(f, LENGTHS)
    out, t_h = head.forward(g)
    value, d_out = bptt.cross_entropy(out, [0, 1, 0])
    mine = {"loss": {"loss": lambda z: bptt.cross_entropy(z, [0, 1, 0])}, "dy": {"dy": d_out}}
    report = bptt.gradient_flow(several(), ids, lengths=LENGTHS, **mine.get(how, {"loss": how}))
    assert report.value == (value if how == "loss" else None)
    if how in mine:
        d_f = pool.backward(t_g, head.backward(t_h, d_out).x).x
        top = bptt.gradient_flow(rnn, e, dy=d_f, lengths=LENGTHS)
    else:
        top = bptt.gradient_flow(rnn, e, loss=how, lengths=LENGTHS)
        u = np.random.default_rng((0, 0)).standard_normal((B, 5))
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        steps, ends = np.arange(T)[:, None], np.array(LENGTHS)
        on = steps == ends - 1 if how == "last" else steps < ends
        d_f = (on[:, :, None] * u).astype("float32")
    d_e = rnn.backward(t_f, d_f).x
    middle = bptt.gradient_flow(lstm, d, dy=d_e, lengths=LENGTHS)
    d_d = lstm.backward(t_e, d_e).x
    d_b = dropped.backward(t_c, norm.backward(t_d, d_d).x).x
    low = bptt.gradient_flow(before, a, dy=d_b, lengths=LENGTHS)
    parts = {"1.": low, "4.": middle, "5.": top}
    assert report.norms == {f"{p}{n}": v for p, of in parts.items() for n, v in of.norms.items()}
    assert report.verdicts == sum((of.verdicts for of in parts.values()), ())
    names = [cell.name for cell in report.cells]
    assert names == [
        "layer 1.0", "layer 1.0, reverse", "layer 1.1", "layer 1.1, reverse", "layer 4.0",
        "layer 5.0",
    ]  # fmt: skip
    assert report.model == ", ".join(of.model for of in parts.values())
    for cell, want in zip(
        report.cells, (c for of in parts.values() for c in of.cells), strict=True
    ):
        np.testing.assert_array_equal(cell.dh, want.dh)
        np.testing.assert_array_equal(cell.share, want.share)
    assert all(one.text.startswith("model.layers[") for one in report.advice)


def test_the_report_on_several_layers_is_text_a_page_and_pictures() -> None:
    pytest.importorskip("matplotlib")
    ids = np.random.default_rng(0).integers(0, V, (T, B))
    report = bptt.gradient_flow(several(frozen=True), ids)
    text = str(report)
    rows = {line.split("  ")[0]: line for line in text.splitlines()}
    assert rows["saturated units of gate z"].count("-") == 2  # neither the LSTM nor the RNN has one
    assert rows["saturated units of gate i"].count("-") == 5
    assert "mean of gate z or f, which keeps the state" in text
    assert "layer 4.0: " in text
    page = report.to_html()
    assert '<th scope="col">layer 1.1, reverse</th>' in page
    report.plot()


def test_a_model_without_a_recurrent_layer_is_refused() -> None:
    model = bptt.Sequential(bptt.Linear(E, H), bptt.Last())
    with pytest.raises(
        ValueError, match="gradient_flow: model has no recurrent layer, expected one"
    ):
        bptt.gradient_flow(model, np.ones((T, B, E)))
