# SPDX-License-Identifier: MIT
"""The libraries that `bptt bench` times, each doing the same work on the same numbers.

Inference gives y and the final state; training gives these and, for dL/dy, the gradients of x, the
weights, the biases and the initial state. What can be prepared once (layouts, compiling) is.
A library is imported when it is given work, which is in its own process only.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..workloads import CELLS, PASSES, Problem
from . import bptt_peer, jax, onednn, onnxruntime, openvino, tensorflow, torch
from .job import Job

__all__ = ["PEERS", "TOLERANCE", "Peer"]

TOLERANCE = 2e-4  # of a result's maximum: float32 sums of thousands of steps in another order


class Peer(NamedTuple):
    prepare: Callable[[str, bool, Problem], Job]  # cell, training?, problem
    version: Callable[[], str]
    missing: Callable[[], str] = str  # what is not installed, and the line that installs it; or ""
    passes: tuple[str, ...] = PASSES
    cells: tuple[str, ...] = ("rnn", "lstm", "gru")  # that libraries other than bptt know
    environment: Mapping[str, str] = {}  # of its process


def _package(
    prepare: Callable[[str, bool, Problem], Job], extra: str, *modules: str, **others: Any
) -> Peer:
    """A library that pip installs as bptt[extra]."""

    def missing() -> str:
        names = [name for name in modules if not importlib.util.find_spec(name)]
        line = f' not installed (pip install "bptt[{extra}]")'
        return " and ".join(names) + line if names else ""

    return Peer(prepare, lambda: importlib.metadata.version(modules[0]), missing, **others)


# Keep the memory of large results for the next ones, as bptt does on its own: else PyTorch gives it
# back to the system and gets it anew, page by page.
_KEEP_MEMORY = "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296"

_ALL = tuple(CELLS)
_INFERENCE = PASSES[:1]
PEERS = {
    "bptt": Peer(bptt_peer.core, lambda: importlib.metadata.version("bptt"), cells=_ALL),
    "reference": Peer(
        bptt_peer.functional("bptt.reference"), lambda: f"NumPy {np.__version__}", cells=_ALL
    ),
    "torch": _package(torch.prepare, "torch", "torch"),
    "torch_tuned": _package(
        torch.prepare, "torch", "torch", environment={"GLIBC_TUNABLES": _KEEP_MEMORY}
    ),
    "onednn": Peer(onednn.preparer(repack=True), onednn.version, onednn.missing),
    "onednn_packed": Peer(
        onednn.preparer(repack=False), onednn.version, onednn.missing, passes=_INFERENCE
    ),
    "onnxruntime": _package(onnxruntime.prepare, "onnx", "onnxruntime", "onnx", passes=_INFERENCE),
    "openvino": _package(openvino.prepare, "openvino", "openvino", passes=_INFERENCE),
    "jax": _package(jax.prepare, "jax", "jax"),
    "tensorflow": _package(
        tensorflow.prepare, "tensorflow", "tensorflow", environment=tensorflow.ENVIRONMENT
    ),
}
