# SPDX-License-Identifier: MIT
"""Arrays of other libraries go in wherever arrays do, and NumPy's come out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bptt

T, B, I, H = 6, 3, 4, 5
RNG = np.random.default_rng(0)
X = RNG.standard_normal((T, B, I)).astype(np.float32)
DY = RNG.standard_normal((T, B, H)).astype(np.float32)
W = {
    "w_ih": RNG.standard_normal((4 * H, I)).astype(np.float32),
    "w_hh": RNG.standard_normal((4 * H, H)).astype(np.float32),
    "b_ih": RNG.standard_normal(4 * H).astype(np.float32),
}
STATE = tuple(RNG.standard_normal((2, B, H)).astype(np.float32))


class OnlyDlpack:
    """An array of which NumPy sees nothing but DLPack."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def torch_tensor(array: Any) -> Any:
    return pytest.importorskip("torch").tensor(array)


def jax_array(array: Any) -> Any:
    return pytest.importorskip("jax").numpy.asarray(array)


def pandas_frame(array: Any) -> Any:
    """A table or a column, where the array has so many axes; pandas has no more."""
    pandas = pytest.importorskip("pandas")
    if array.ndim > 2:
        return array
    return pandas.DataFrame(array) if array.ndim == 2 else pandas.Series(array)


KINDS: dict[str, Callable[[Any], Any]] = {
    "torch": torch_tensor,
    "jax": jax_array,
    "pandas": pandas_frame,
    "list": lambda array: array.tolist(),
    "dlpack": OnlyDlpack,
    "memoryview": memoryview,
}


def every_array(result: Any) -> list[Any]:
    if isinstance(result, dict):
        return [a for v in result.values() for a in every_array(v)]
    if isinstance(result, (tuple, list)):
        return [a for v in result for a in every_array(v)]
    return [] if result is None else [result]


@pytest.mark.parametrize("kind", KINDS)
def test_a_function_takes_them_and_returns_numpy(kind: str) -> None:
    put = KINDS[kind]
    expected_y, expected_state, tape = bptt.lstm_forward(X, **W, state=STATE)
    expected = bptt.lstm_backward(tape, DY, STATE)
    y, state, tape = bptt.lstm_forward(
        put(X), **{k: put(v) for k, v in W.items()}, state=tuple(put(s) for s in STATE),
        lengths=put(np.full(B, T)), resets=put(np.zeros((T, B), bool)),
    )  # fmt: skip
    grads = bptt.lstm_backward(tape, put(DY), tuple(put(s) for s in STATE))
    found = every_array([y, state, grads.x, grads.w_ih, grads.w_hh, grads.b_ih, grads.state])
    wanted = [expected_y, expected_state, expected.x, expected.w_ih, expected.w_hh]
    for ours, theirs in zip(found, every_array([*wanted, expected.b_ih, expected.state])):
        assert type(ours) is np.ndarray
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_losses_and_files_take_them(kind: str, tmp_path: Any) -> None:
    put = KINDS[kind]
    lstm, head = bptt.LSTM(I, H, seed=0), bptt.Linear(H, 2, seed=0)
    again = bptt.LSTM(I, H, seed=1)
    again.load({name: put(array) for name, array in lstm.parameters.items()})
    y, state = again(put(X), tuple(put(s[None]) for s in STATE))
    np.testing.assert_array_equal(y, lstm(X, tuple(s[None] for s in STATE))[0])
    assert all(type(a) is np.ndarray for a in every_array([y, state, head(put(DY))]))
    target = RNG.integers(0, 2, (T, B))
    scores = head(DY)
    ours, theirs = bptt.cross_entropy(put(scores), put(target)), bptt.cross_entropy(scores, target)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6)
    stream = again.stream(batch=B)
    np.testing.assert_array_equal(stream.step(put(X[0])), lstm.stream(batch=B).step(X[0]))
    bptt.save(tmp_path / "a.npz", {k: put(v) for k, v in lstm.parameters.items()})
    for source in (tmp_path / "a.npz", {k: put(v) for k, v in lstm.parameters.items()}):
        np.testing.assert_allclose(bptt.load_model(source)(X)[0], lstm(X)[0], atol=1e-6)
    layer = bptt.layer_from_arrays("lstm", put(W["w_ih"]), put(W["w_hh"]), put(W["b_ih"]))
    np.testing.assert_allclose(layer(X)[0], bptt.lstm_forward(X, **W)[0], atol=1e-6)
    adam, weights = bptt.Adam(again.parameters), {k: v.copy() for k, v in again.parameters.items()}
    adam.step({k: put(np.ones_like(v)) for k, v in weights.items()})
    assert all((again.parameters[k] < weights[k]).all() for k in weights)


@pytest.mark.parametrize("kind", ["torch", "jax"])
def test_bfloat16_becomes_float32_exactly(kind: str) -> None:
    library = pytest.importorskip(kind if kind == "torch" else "jax.numpy")
    small = KINDS[kind](X).to(library.bfloat16) if kind == "torch" else library.bfloat16(X)
    exact = small.float().numpy() if kind == "torch" else np.asarray(small.astype("float32"))
    assert not np.array_equal(exact, X)
    np.testing.assert_array_equal(
        bptt.lstm_forward(small, **W)[0], bptt.lstm_forward(exact, **W)[0]
    )


def test_a_tensor_with_a_graph_is_refused_where_its_gradient_would_be_lost() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"lstm_forward: x is not an array: .*requires grad"):
        bptt.lstm_forward(torch.tensor(X, requires_grad=True), **W)
    module = torch.nn.LSTM(I, H)  # weights are taken out of their graph
    assert type(bptt.load_model(dict(module.named_parameters()))) is bptt.LSTM
