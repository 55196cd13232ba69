# SPDX-License-Identifier: MIT
"""The libraries that `bptt bench` times, each doing the same work on the same numbers.

Inference gives y and the final state; training gives these and, for dL/dy, the gradients of x, the
weights, the biases and the initial state. What can be prepared once (layouts, compiling) is.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..grads import Array
from .points import CELLS, PASSES, Problem

TOLERANCE = 2e-4  # of a result's maximum: float32 sums of thousands of steps in another order


class Job(NamedTuple):
    """One piece of work of one library, in its own types."""

    run: Callable[[Any], tuple[Any, ...]]  # initial state -> (y, final state[, gradients])
    state: Any
    arrays: Callable[[tuple[Any, ...]], dict[str, Array]]  # what `run` gave, as NumPy arrays
    context: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext


class Peer(NamedTuple):
    prepare: Callable[[str, bool, Problem], Job]  # cell, training?, problem
    modules: tuple[str, ...] = ()  # to be installed
    extra: str = ""  # pip install "bptt[extra]"
    passes: tuple[str, ...] = PASSES
    cells: tuple[str, ...] = tuple(CELLS)


def threads() -> int:
    """On which each call may compute; libraries that read it from the environment are not told."""
    return int(os.environ.get("BPTT_NUM_THREADS", "1"))


def _named(y: Any, states: Sequence[Any], grads: Sequence[Any] = ()) -> dict[str, Array]:
    """One dict of arrays for all; `grads` are in the order of the arguments."""
    values = (y, *states, *grads)
    names = ["y", "final h", "final c"][: 1 + len(states)]
    if grads:
        arguments = ["x", "w_ih", "w_hh", "b_ih", "b_hh", "h0", "c0"][: 5 + len(states)]
        names += [f"gradient of {name}" for name in arguments]
    return {name: np.asarray(value) for name, value in zip(names, values)}


def _tuple(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


# --- bptt and its reference -----------------------------------------------------------------------


def _functional(module_name: str) -> Callable[[str, bool, Problem], Job]:
    def prepare(cell: str, train: bool, p: Problem) -> Job:
        module = importlib.import_module(module_name)
        forward = getattr(module, f"{cell}_forward")
        backward = getattr(module, f"{cell}_backward")
        x, weights, dy = p.x, p.weights, p.dy

        def infer(state: Any) -> tuple[Any, ...]:
            y, state, _ = forward(x, *weights, state, keep_tape=False)
            return y, state

        def step(state: Any) -> tuple[Any, ...]:
            y, state, tape = forward(x, *weights, state)
            return y, state, backward(tape, dy)

        def arrays(result: tuple[Any, ...]) -> dict[str, Array]:
            y, state, *rest = result
            grads = [g for grads in rest for g in (*grads[:5], *_tuple(grads[5]))]
            return _named(y, _tuple(state), grads)

        state = p.state if len(p.state) > 1 else p.state[0]
        return Job(step if train else infer, state, arrays)

    return prepare


# --- PyTorch --------------------------------------------------------------------------------------


def _torch(cell: str, train: bool, p: Problem) -> Job:
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads())
    layer = getattr(torch.nn, cell.upper())(p.x.shape[2], p.dy.shape[2]).train(train)
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), p.weights):
            parameter.copy_(torch.from_numpy(value))
    x, dy = torch.tensor(p.x, requires_grad=train), torch.tensor(p.dy)
    states = tuple(torch.tensor(s[None], requires_grad=train) for s in p.state)
    leaves = [x, *layer.parameters(), *states]

    def infer(state: Any) -> tuple[Any, ...]:
        return layer(x, state)  # type: ignore[no-any-return]

    def step(state: Any) -> tuple[Any, ...]:
        y, final = layer(x, state)
        return y, final, torch.autograd.grad(y, leaves, dy)

    def arrays(result: tuple[Any, ...]) -> dict[str, Array]:
        y, final, *rest = result
        grads = [g.numpy() for grads in rest for g in grads]
        grads[5:] = [g[0] for g in grads[5:]]
        return _named(y.detach().numpy(), [s[0].detach().numpy() for s in _tuple(final)], grads)

    state = states if len(states) > 1 else states[0]
    if train:
        return Job(step, state, arrays)
    return Job(infer, state, arrays, torch.inference_mode)


# --- JAX ------------------------------------------------------------------------------------------


def _jax(cell: str, train: bool, p: Problem) -> Job:
    jax = importlib.import_module("jax")
    sigmoid, tanh, split = jax.nn.sigmoid, jax.numpy.tanh, jax.numpy.split

    def rnn(state: Any, a: Any, r: Any) -> Any:
        return (tanh(a + r),)

    def lstm(state: Any, a: Any, r: Any) -> Any:
        i, f, g, o = split(a + r, 4, -1)
        c = sigmoid(f) * state[1] + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c

    def gru(state: Any, a: Any, r: Any) -> Any:
        (ar, az, an), (rr, rz, rn) = split(a, 3, -1), split(r, 3, -1)
        n, z = tanh(an + sigmoid(ar + rr) * rn), sigmoid(az + rz)
        return (n + z * (state[0] - n),)

    equations = {"rnn": rnn, "lstm": lstm, "gru": gru}[cell]

    def forward(x: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, *state: Any) -> Any:
        def step(state: Any, a: Any) -> Any:
            state = equations(state, a, state[0] @ w_hh + b_hh)
            return state, state[0]

        final, y = jax.lax.scan(step, state, x @ w_ih + b_ih)
        return y, final

    def forward_backward(dy: Any, *arguments: Any) -> Any:
        y, pullback, final = jax.vjp(forward, *arguments, has_aux=True)
        return y, final, pullback(dy)

    # Weights as (I, G*H) and (H, G*H): XLA takes up to six times as long with their transposes.
    w_ih, w_hh, *biases = p.weights
    weights = np.ascontiguousarray(w_ih.T), np.ascontiguousarray(w_hh.T), *biases
    x, weights, state, dy = jax.tree.map(jax.numpy.asarray, (p.x, weights, p.state, p.dy))
    infer, train_step = jax.jit(forward), jax.jit(forward_backward)

    def run(state: Any) -> tuple[Any, ...]:
        out = train_step(dy, x, *weights, *state) if train else infer(x, *weights, *state)
        return jax.block_until_ready(out)  # type: ignore[no-any-return]

    def arrays(result: tuple[Any, ...]) -> dict[str, Array]:
        y, final, *rest = result
        grads = [g for grads in rest for g in grads]
        grads[1:3] = [g.T for g in grads[1:3]]
        return _named(y, final, grads)

    return Job(run, state, arrays)


# --- ONNX Runtime ---------------------------------------------------------------------------------

# Positions of PyTorch's gates in ONNX's order: i o f c, and z r h.
_ONNX_GATES = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}


def _onnx_model(cell: str, p: Problem) -> bytes:
    onnx = importlib.import_module("onnx")

    def reorder(a: Array) -> Array:
        gates = np.split(a, len(_ONNX_GATES[cell]))
        return np.concatenate([gates[k] for k in _ONNX_GATES[cell]])

    w_ih, w_hh, b_ih, b_hh = map(reorder, p.weights)
    constants = {"W": w_ih, "R": w_hh, "B": np.concatenate([b_ih, b_hh])}
    states = ["h", "c"][: len(p.state)]
    T, B, I = p.x.shape
    H = p.dy.shape[2]

    def value(name: str, *shape: int) -> Any:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    node = onnx.helper.make_node(
        cell.upper(),
        ["X", *constants, "", *(s + "0" for s in states)],
        ["Y", *states],
        hidden_size=H,
        **({"linear_before_reset": 1} if cell == "gru" else {}),
    )
    graph = onnx.helper.make_graph(
        [node],
        cell,
        [value("X", T, B, I), *(value(s + "0", 1, B, H) for s in states)],
        [value("Y", T, 1, B, H), *(value(s, 1, B, H) for s in states)],
        [onnx.numpy_helper.from_array(a[None], name) for name, a in constants.items()],
    )
    opset = onnx.helper.make_opsetid("", 14)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    return model.SerializeToString()  # type: ignore[no-any-return]


def _onnxruntime(cell: str, train: bool, p: Problem) -> Job:
    ort = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads(), 1
    session = ort.InferenceSession(_onnx_model(cell, p), options, ["CPUExecutionProvider"])
    names = ["h0", "c0"][: len(p.state)]
    binding = session.io_binding()
    binding.bind_ortvalue_input("X", ort.OrtValue.ortvalue_from_numpy(p.x))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cpu")
    bound: Any = None

    def run(state: Any) -> tuple[Any, ...]:
        nonlocal bound
        if state is not bound:
            for name, value in zip(names, state):
                binding.bind_ortvalue_input(name, value)
            bound = state
        session.run_with_iobinding(binding)
        y, *final = binding.get_outputs()
        return y, final

    def arrays(result: tuple[Any, ...]) -> dict[str, Array]:
        y, final = result
        return _named(y.numpy()[:, 0], [s.numpy()[0] for s in final])

    return Job(run, [ort.OrtValue.ortvalue_from_numpy(s[None]) for s in p.state], arrays)


_KNOWN = ("rnn", "lstm", "gru")  # by libraries other than this one

PEERS = {
    "bptt": Peer(_functional("bptt")),
    "reference": Peer(_functional("bptt.reference")),
    "torch": Peer(_torch, ("torch",), "torch", cells=_KNOWN),
    "onnxruntime": Peer(_onnxruntime, ("onnxruntime", "onnx"), "onnx", PASSES[:1], _KNOWN),
    "jax": Peer(_jax, ("jax",), "jax", cells=_KNOWN),
}
