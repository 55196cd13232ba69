# SPDX-License-Identifier: MIT
"""Misuse of the training tools, in haste or on purpose: clear errors, nothing lost."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bptt
from bptt import SGD, Adam, Embedding, Linear, RMSprop, clip_grad_norm, clip_grad_value, gradcheck

LSTM = bptt.LSTM(2, 3, seed=0)
Y, _, TAPE = LSTM.forward(np.ones((4, 1, 2)))
GRADS = LSTM.backward(TAPE, Y)
MASKED = np.ma.masked_array(np.zeros((2, 3)), mask=True)

WRONG = [
    (
        lambda: Adam(LSTM),
        "Adam: params is of type LSTM, expected a dict of arrays: pass .parameters",
    ),
    (lambda: Adam([Y]), "Adam: params is of type list, expected a dict of arrays"),
    (
        lambda: SGD(LSTM.parameters).step(GRADS),
        "SGD.step: grads is of type LayerGrads, expected a dict of arrays: pass .params",
    ),
    (
        lambda: clip_grad_norm(GRADS, 1.0),
        "clip_grad_norm: grads is of type LayerGrads, expected a dict of arrays: pass .params",
    ),
    (lambda: bptt.save("m.npz", LSTM), "save: arrays is of type LSTM, expected a dict of arrays"),
    (lambda: Adam(LSTM.parameters, lr="0.1"), "Adam: lr is '0.1', expected a number"),
    (lambda: Adam(LSTM.parameters, betas=0.9), "Adam: betas is 0.9, expected two numbers"),
    (lambda: Adam(LSTM.parameters, betas=(0.9,)), "Adam: betas is (0.9,), expected two numbers"),
    (
        lambda: bptt.cross_entropy(np.zeros((2, 3)), [0, 1], ignore_index=np.ones(3)),
        "cross_entropy: ignore_index is array([1., 1., 1.]), expected an integer",
    ),
    (lambda: bptt.mse(MASKED, np.zeros((2, 3))), "mse: prediction is a masked array"),
    (lambda: Linear(3, 2)(MASKED), "Linear: x is a masked array, expected one without a mask"),
    (lambda: LSTM(MASKED), "LSTM: x is a masked array, expected one without a mask"),
]


@pytest.mark.parametrize(("call", "text"), WRONG, ids=[text for _, text in WRONG])
def test_the_wrong_kind_of_argument(call: Any, text: str) -> None:
    with pytest.raises(TypeError, match=re.escape(text)):
        call()


def test_cross_entropy_has_no_third_place_where_torch_has_weights() -> None:
    with pytest.raises(TypeError):
        bptt.cross_entropy(np.zeros((3, 3)), [0, 1, 2], np.ones(3))  # type: ignore[misc]


def test_numbers_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"RMSprop: alpha is 1\.5, expected 0 <= alpha < 1"):
        RMSprop(LSTM.parameters, alpha=1.5)


@pytest.mark.parametrize("clip", [clip_grad_norm, clip_grad_value])
def test_one_array_under_two_names_is_not_scaled_twice(clip: Any) -> None:
    g = np.array([3.0, 4.0])
    with pytest.raises(ValueError, match="grads has one array as 'a' and 'b'"):
        clip({"a": g, "b": g}, 1.0)
    assert g.tolist() == [3.0, 4.0]


def test_a_parameter_that_came_later_moves_nothing() -> None:
    params = {"a": np.zeros(2)}
    optimizer = Adam(params)
    params["b"] = np.zeros(2)
    with pytest.raises(ValueError, match=re.escape("Adam.step: params has other names than at")):
        optimizer.step({"a": np.ones(2), "b": np.ones(2)})
    assert not params["a"].any()


def test_plain_gradient_descent_forgets_an_infinite_gradient() -> None:
    params = {"w": np.ones(2)}
    optimizer = SGD(params, lr=0.1)
    optimizer.step({"w": np.array([np.inf, 0.0])})
    params["w"][...] = 1.0
    optimizer.step({"w": np.ones(2)})
    assert params["w"].tolist() == [0.9, 0.9]


def test_bias_gradient_over_a_million_rows() -> None:
    layer = Linear(1, 1)
    _, tape = layer.forward(np.ones((10**6, 1), np.float32))
    grads = layer.backward(tape, np.full((10**6, 1), 0.1, np.float32))
    assert grads.params["bias"].dtype == np.float32
    assert grads.params["bias"].item() == pytest.approx(10**6 * float(np.float32(0.1)), rel=1e-6)


def test_tapes_own_the_weights() -> None:
    for layer, x in ((Linear(2, 3, seed=0), np.ones((4, 2))), (LSTM, np.ones((4, 1, 2)))):
        before = layer.state_dict()
        *results, tape = layer.forward(x)
        want = layer.backward(tape, np.ones_like(results[0])).x
        for array in layer.parameters.values():
            array += 1
        got = layer.backward(tape, np.ones_like(results[0])).x
        layer.load_state_dict(before)
        assert np.array_equal(got, want)


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"batch_first": True}])
def test_training_output_is_read_only_and_inference_output_is_not(options: Any) -> None:
    layer = bptt.GRU(2, 3, seed=0, **options)
    y, _, _ = layer.forward(np.ones((4, 5, 2)))
    with pytest.raises(ValueError, match="read-only"):
        y *= 2
    y, _ = layer(np.ones((4, 5, 2)))
    y *= 2


def test_gradcheck_sees_through_views() -> None:
    def view(x: Any) -> Any:
        return x[::-1], None

    x = {"x": np.ones(3)}
    gradcheck(view, lambda tape, d: {"x": d[::-1]}, x)
    with pytest.raises(AssertionError, match="gradient of x is 0 at"):
        gradcheck(view, lambda tape, d: {"x": np.zeros_like(d)}, x)


def test_embedding_and_linear_keep_apart_when_joined() -> None:
    parts = {"embedding": Embedding(6, 5), "out": Linear(5, 6, bias=False)}
    params = bptt.optim.join(**{name: layer.parameters for name, layer in parts.items()})
    assert list(params) == ["embedding.weight", "out.weight"]


# --- files


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX files")
def test_save_replaces_nothing_but_files(tmp_path: Path) -> None:
    fifo, loop = tmp_path / "fifo", tmp_path / "loop"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    for path in (fifo, tmp_path, loop):
        kind = stat.S_IFMT(os.lstat(path).st_mode)
        with pytest.raises((ValueError, OSError), match=r"regular file|levels of symbolic"):
            bptt.save(path, {"w": np.ones(3)})
        assert stat.S_IFMT(os.lstat(path).st_mode) == kind
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fifo", "loop"]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_save_opens_a_private_file_to_nobody(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    bptt.save(path, {"w": np.ones(3)})
    path.chmod(0o600)
    bptt.save(path, {"w": np.zeros(3)})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not bptt.load(path)["w"].any()


def test_save_takes_any_name_that_the_system_takes(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250 + ".npz")
    bptt.save(path, {"w": np.ones(3)})
    assert bptt.load(path)["w"].all()
    with pytest.raises(ValueError, match="expected one without a NUL"):
        bptt.save(path, {"a\0b": np.ones(3)})
