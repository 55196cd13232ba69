# SPDX-License-Identifier: MIT
"""The libraries that `bptt bench` times, on the same work and the same numbers.

Inference computes y and the final state. Training also computes, from dL/dy, the gradients of x,
the weights, the biases and the initial state. Layouts and compilation are prepared once, outside
the times. A library is imported in its own process only.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ... import _core
from ..workloads import PASSES, Problem
from . import bptt_peer, jax, onednn, onnxruntime, openvino, tensorflow, torch
from .job import Job

__all__ = ["PEERS", "TOLERANCE", "Peer", "own_of", "rivals"]

TOLERANCE = 2e-4  # relative to a result's maximum, for float32 sums over thousands of steps


class Peer(NamedTuple):
    prepare: Callable[[str, bool, Problem], Job]  # cell, training?, problem
    version: Callable[[], str]
    missing: Callable[[], str] = str  # missing packages and the line to install them, or ""
    passes: tuple[str, ...] = PASSES
    environment: Mapping[str, str] = {}  # of its process
    streams: bool = True  # is it timed on single steps, with the state carried on?
    own: str = "bptt"  # the way of calling bptt that does the same, with which it is compared
    tolerance: float = TOLERANCE


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
# They keep packed weights between calls.
_PACKED: dict[str, Any] = {"passes": _INFERENCE, "own": "bptt_prepared"}


def _version() -> str:
    return importlib.metadata.version("bptt")


def _no_bf16() -> str:
    return "" if _core.has_bf16() else "this machine has no products in bfloat16"


def _onednn(variable: str, repack: bool) -> Peer:
    peer = Peer(
        onednn.preparer(variable, repack),
        lambda: onednn.version(variable),
        lambda: onednn.missing(variable),
    )
    return peer if repack else peer._replace(**_PACKED)


_TORCH_BF16 = _package(torch.bf16, "torch", "torch", own="bptt_bf16", tolerance=0.2)
PEERS = {
    "bptt": Peer(bptt_peer.core, _version),
    "reference": Peer(bptt_peer.reference, lambda: f"NumPy {np.__version__}"),
    "torch": _package(torch.float32, "torch", "torch"),
    "torch_tuned": _package(
        torch.float32, "torch", "torch", environment={"GLIBC_TUNABLES": _KEEP_MEMORY}
    ),
    "onednn": _onednn("BPTT_ONEDNN", repack=True),
    "onednn_packed": _onednn("BPTT_ONEDNN", repack=False),
    "onednn3": _onednn("BPTT_ONEDNN3", repack=True),
    "onednn3_packed": _onednn("BPTT_ONEDNN3", repack=False),
    "onnxruntime": _package(onnxruntime.prepare, "onnx", "onnxruntime", "onnx", **_PACKED),
    "openvino": _package(openvino.prepare, "openvino", "openvino", **_PACKED),
    "jax": _package(jax.prepare, "jax", "jax"),
    "tensorflow": _package(
        tensorflow.prepare, "tensorflow", "tensorflow", environment=tensorflow.ENVIRONMENT
    ),
    "bptt_prepared": Peer(bptt_peer.prepared, _version, passes=_INFERENCE, streams=False),
    # PyTorch sums gradients of weights over all steps in bfloat16, whence its wide bound.
    "bptt_bf16": Peer(bptt_peer.bf16, _version, _no_bf16, tolerance=0.02),
    "torch_bf16": _TORCH_BF16._replace(missing=lambda: _no_bf16() or _TORCH_BF16.missing()),
}


def own_of(name: str, present: Container[str]) -> str:
    """The way of calling bptt with which a library is compared, among those that were timed."""
    own = PEERS[name].own if name in PEERS else "bptt"
    return own if own in present else "bptt"


def rivals(present: Iterable[str]) -> list[str]:
    """The other libraries among these that compute in float32."""
    return [n for n in present if not n.startswith("bptt") and own_of(n, ["bptt_bf16"]) == "bptt"]
