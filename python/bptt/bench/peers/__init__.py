# SPDX-License-Identifier: MIT
"""The libraries that `bptt bench` times, on the same work and the same numbers.

Inference computes y and the final state. Training also computes, from dL/dy, the gradients of x,
the weights, the biases and the initial state. Layouts and compilation are prepared once, outside
the times. A library is imported in its own process only.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..workloads import PASSES, Problem
from . import bptt_peer, jax, onednn, onnxruntime, openvino, tensorflow, torch
from .job import Job

__all__ = ["PEERS", "TOLERANCE", "Peer"]

TOLERANCE = 2e-4  # relative to a result's maximum, for float32 sums over thousands of steps


class Peer(NamedTuple):
    prepare: Callable[[str, bool, Problem], Job]  # cell, training?, problem
    version: Callable[[], str]
    missing: Callable[[], str] = str  # missing packages and the line to install them, or ""
    passes: tuple[str, ...] = PASSES
    environment: Mapping[str, str] = {}  # of its process


def _package(
    prepare: Callable[[str, bool, Problem], Job], extra: str, *modules: str, **others: Any
) -> Peer:
    """A library that pip installs as bptt[extra]."""

    def missing() -> str:
        names = [name for name in modules if not importlib.util.find_spec(name)]
        line = f' (pip install "bptt[{extra}]")'
        return f"it needs {' and '.join(names)}{line}" if names else ""

    return Peer(prepare, lambda: importlib.metadata.version(modules[0]), missing, **others)


# Keeps the memory of large results for the next ones, as bptt does: without it, PyTorch returns the
# memory to the system and allocates it again, page by page.
_KEEP_MEMORY = "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296"

_INFERENCE = PASSES[:1]
PEERS = {
    "bptt": Peer(bptt_peer.core, lambda: importlib.metadata.version("bptt")),
    "reference": Peer(bptt_peer.reference, lambda: f"NumPy {np.__version__}"),
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
