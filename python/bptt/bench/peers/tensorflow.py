# SPDX-License-Identifier: MIT
"""TensorFlow: the layers of Keras, which are batch first, compiled by `tf.function`."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..._types import Array
from ..workloads import Problem
from .job import Job, named, threads

# Environment of its process: no search for other devices, and few messages.
ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

_LAYERS = {"rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}
# Positions of PyTorch's gates in the order of Keras, i f c o and z r h. The inverse is the same.
_GATES = {"rnn": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}


def _reorder(cell: str, a: Array) -> Array:
    """The gates on the first axis, from PyTorch's order to Keras' or back."""
    gates = np.split(a, len(_GATES[cell]))
    return np.concatenate([gates[k] for k in _GATES[cell]])


def _layer(cell: str, p: Problem) -> Any:
    keras = importlib.import_module("keras")
    options: dict[str, Any] = {"return_sequences": True, "return_state": True}
    if cell == "gru":
        options["reset_after"] = True
    layer = getattr(keras.layers, _LAYERS[cell])(p.dy.shape[2], **options)
    layer.build((p.x.shape[1], p.x.shape[0], p.x.shape[2]))
    w_ih, w_hh, b_ih, b_hh = (_reorder(cell, a) for a in p.weights)
    layer.set_weights([w_ih.T, w_hh.T, np.stack([b_ih, b_hh]) if cell == "gru" else b_ih + b_hh])
    return layer


def _start() -> Any:
    tf = importlib.import_module("tensorflow")
    if tf.config.threading.get_intra_op_parallelism_threads() != threads():
        tf.config.threading.set_intra_op_parallelism_threads(threads())
        tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


def prepare(cell: str, train: bool, p: Problem) -> Job:
    tf = _start()
    layer = _layer(cell, p)
    x, dy = (tf.constant(np.ascontiguousarray(a.swapaxes(0, 1))) for a in (p.x, p.dy))
    state = [tf.constant(s) for s in p.state]

    @tf.function  # type: ignore[untyped-decorator]
    def infer(x: Any, state: Any) -> Any:
        y, *final = layer(x, initial_state=state)
        return y, final

    @tf.function  # type: ignore[untyped-decorator]
    def step(x: Any, state: Any, dy: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, state])
            y, *final = layer(x, initial_state=state)
        leaves = [x, *layer.trainable_variables, *state]
        return y, final, tape.gradient(y, leaves, output_gradients=dy)

    def run(state: Any) -> tuple[Any, ...]:
        out = step(x, state, dy) if train else infer(x, state)
        return out  # type: ignore[no-any-return]

    def arrays(result: tuple[Any, ...]) -> dict[str, Array]:
        y, final, *rest = result
        grads = [g.numpy() for grads in rest for g in grads]
        if grads:
            dx, dw_ih, dw_hh, db, *dstate = grads
            both = db if cell == "gru" else (db, db)  # b_ih and b_hh have the same gradient
            weights = [_reorder(cell, a) for a in (dw_ih.T, dw_hh.T, *both)]
            grads = [dx.swapaxes(0, 1), *weights, *dstate]
        return named(y.numpy().swapaxes(0, 1), [s.numpy() for s in final], grads)

    return Job(run, state, arrays)
