# SPDX-License-Identifier: MIT
"""oneDNN, through a small library built in `benchmarks/onednn`, whose file a variable names."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..._types import Array
from ..workloads import CELLS, Problem
from .job import Job, named

# Positions of PyTorch's gates in oneDNN's order, i f c o and u r o. The inverse is the same.
_GATES = {"rnn": [0], "lstm": [0, 1, 2, 3], "gru": [1, 0, 2]}
_Pointer = ctypes.POINTER(ctypes.c_float)


class _Problem(ctypes.Structure):
    """The struct of onednn_rnn.cpp."""

    _fields_ = [(name, ctypes.c_int64) for name in "TBIH"] + [
        (name, _Pointer) for name in "x w_ih w_hh bias y dy dx dw_ih dw_hh dbias dh0 dc0".split()
    ]


def missing(variable: str) -> str:
    file = os.environ.get(variable, "")
    if os.path.isfile(file):
        return ""
    return f"{variable} is {file!r}, expected the library that benchmarks/README.md builds"


def _library(variable: str) -> Any:
    library = ctypes.CDLL(os.path.abspath(os.environ[variable]))
    library.bptt_onednn_version.restype = library.bptt_onednn_error.restype = ctypes.c_char_p
    library.bptt_onednn_load.restype = ctypes.c_void_p
    library.bptt_onednn_run.restype = ctypes.c_bool
    library.bptt_onednn_run.argtypes = [ctypes.c_void_p] * 3
    library.bptt_onednn_free.argtypes = [ctypes.c_void_p]
    return library


def version(variable: str) -> str:
    return str(_library(variable).bptt_onednn_version().decode())


class _Layer:
    """A layer of the library, and the arrays that it reads and writes."""

    def __init__(
        self, library: Any, cell: str, train: bool, repack: bool, arrays: dict[str, Array]
    ) -> None:
        self.arrays = arrays
        self.library = library
        T, B, I = arrays["x"].shape
        problem = _Problem(T, B, I, arrays["y"].shape[2])
        for name, array in arrays.items():
            setattr(problem, name, array.ctypes.data_as(_Pointer))
        self.handle = self.library.bptt_onednn_load(
            cell.encode(), ctypes.c_bool(train), ctypes.c_bool(repack), ctypes.byref(problem)
        )
        self.checked(self.handle)

    def checked(self, done: Any) -> None:
        if not done:
            raise RuntimeError(f"oneDNN: {self.library.bptt_onednn_error().decode()}")

    def __del__(self) -> None:
        self.library.bptt_onednn_free(self.handle)


class _State:
    """Arrays, and their addresses in the library's form."""

    def __init__(self, arrays: tuple[Array, ...]) -> None:
        self.arrays = [a.copy() for a in arrays]
        self.pointers = (_Pointer * len(arrays))(*(a.ctypes.data_as(_Pointer) for a in self.arrays))


def _reorder(cell: str, a: Array) -> Array:
    """From (gates * H, ...) to (gates, H, ...), in the library's order of gates."""
    gates = a.reshape(len(_GATES[cell]), -1, *a.shape[1:])
    return np.ascontiguousarray(gates[_GATES[cell]])


def _arrays(cell: str, train: bool, p: Problem) -> dict[str, Array]:
    w_ih, w_hh, b_ih, b_hh = (_reorder(cell, a) for a in p.weights)
    bias = b_ih + b_hh
    if cell == "gru":
        bias = np.concatenate([bias[:2], b_ih[2:], b_hh[2:]])
    arrays = {"x": p.x, "w_ih": w_ih, "w_hh": w_hh, "bias": bias, "y": np.empty_like(p.dy)}
    if train:
        arrays["dy"] = p.dy
        for name in ("x", "w_ih", "w_hh", "bias"):
            arrays[f"d{name}"] = np.empty_like(arrays[name])
        for name, state in zip(("dh0", "dc0"), p.state):
            arrays[name] = np.empty_like(state)
    return arrays


def preparer(variable: str, repack: bool) -> Callable[[str, bool, Problem], Job]:
    """With the weights reordered for oneDNN in each call, or once before."""

    def prepare(cell: str, train: bool, p: Problem) -> Job:
        layer = _Layer(_library(variable), cell, train, repack, _arrays(cell, train, p))
        run_layer, handle = layer.library.bptt_onednn_run, layer.handle
        first, *finals = (_State(p.state) for _ in range(3))  # final and initial never coincide

        def run(state: _State) -> tuple[Any, ...]:
            final = finals[state is finals[0]]
            layer.checked(run_layer(handle, state.pointers, final.pointers))
            return None, final

        def arrays(result: tuple[Any, ...]) -> dict[str, Array]:
            grads: list[Array] = []
            if train:
                a = layer.arrays
                b_ih = a["dbias"][: len(CELLS[cell].gates)]
                b_hh = np.concatenate([b_ih[:2], a["dbias"][3:]]) if cell == "gru" else b_ih
                weights = [g[_GATES[cell]] for g in (a["dw_ih"], a["dw_hh"], b_ih, b_hh)]
                weights = [g.reshape(-1, *g.shape[2:]) for g in weights]
                grads = [a["dx"], *weights, *(a[name] for name in ("dh0", "dc0") if name in a)]
            return named(layer.arrays["y"], result[1].arrays, grads)

        return Job(run, first, arrays)

    return prepare
