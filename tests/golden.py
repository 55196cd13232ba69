# SPDX-License-Identifier: MIT
"""Golden bits: hashes of the outputs and gradients of several hundred calls.

A refactoring keeps every bit. `tests/golden/<isa>.txt` has one line for each call, a hash and its
name, under the compiler that built the core: another one may fuse other products.

    python tests/golden.py           # writes the file of each instruction set that runs here
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np

import bptt
from bptt import _core
from support import problems
from support.problems import CASES, Case

FOLDER = Path(__file__).with_name("golden")
SHAPE = (9, 3, 5, 18)  # H leaves a rest with every vector width
LONG = (150, 5, 7, 20)  # several chunks of the backward loop
CONTROLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "step_clip-h": {"step_clip": ("norm", 0.3)},
    "step_clip-gates": {"step_clip": ("value", 0.1, "gates")},
    "cut": {"cut": 4},
    "trace": {"trace": "full"},
}


def compiler() -> str:
    """The compiler's own note in the binary."""
    found = re.search(rb"(GCC|clang)[:\w ]*\([^)]*\) [\d.]+", Path(_core.__file__).read_bytes())
    return found[0].decode() if found else "unknown"


def arrays_in(value: Any) -> Iterator[Any]:
    """The arrays of nested results, in order."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from arrays_in(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from arrays_in(part)
    elif isinstance(value, bptt.Trace):
        yield from arrays_in([value.dh, value.dc, value.dh_by_sequence, value.saturated])


def digest(*results: Any) -> str:
    state = hashlib.sha256()
    for array in arrays_in(results):
        state.update(f"{array.dtype.str}{array.shape}".encode())
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()[:16]


def cast(value: Any, dtype: str) -> Any:
    if isinstance(value, tuple):
        return tuple(cast(v, dtype) for v in value)
    return value if value is None else value.astype(dtype)


# --- functions ------------------------------------------------------------------------------------


def of_function(case: Case, shape: tuple[int, int, int, int], dtype: str, **forward: Any) -> Any:
    """Results of one forward call and of a backward call under each control."""
    c = problems.problem(case, shape)
    arrays = {name: cast(value, dtype) for name, value in c.arrays.items()}
    c = c._replace(arrays=arrays, dy=cast(c.dy, dtype), dstate=cast(c.dstate, dtype))
    y, state, tape = problems.forward(bptt, c, **forward)
    grads = []
    for control in CONTROLS.values():
        if c.options.get("dilation", 1) > 1 and "cut" in control:
            continue
        grads.append(problems.backward(bptt, c, tape, **control))
    return y, state, grads


# Of a skip that is no multiple of the dilation the reference alone has equations.
CASES = [c for c in CASES if c.options.get("skip", 0) % c.options.get("dilation", 1) == 0]


def functions() -> Iterator[tuple[str, Callable[[], Any]]]:
    for case in CASES:
        for dtype in ("float32", "float64"):
            yield f"{case.id} {dtype}", lambda c=case, d=dtype: of_function(c, SHAPE, d)
    for case in CASES:
        if case.id.endswith(("-plain", "everything")) or "zoneout-skip" in case.id:
            for threads in (1, 2):
                yield (
                    f"{case.id} long {threads} threads",
                    lambda c=case, n=threads: of_function(c, LONG, "float32", threads=n),
                )
            yield (
                f"{case.id} long checkpoint",
                lambda c=case: of_function(c, LONG, "float32", checkpoint="sqrt"),
            )


# --- layers ---------------------------------------------------------------------------------------

LAYERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deep": {"num_layers": 3, "bidirectional": True, "dropout": 0.3, "residual": True},
    "zoneout": {"num_layers": 2, "zoneout": 0.2, "variational_dropout": True, "dropout": 0.5},
    "dilated": {"num_layers": 2, "dilation": (1, 3), "skip": 3},
    "batch_first": {"batch_first": True, "bias": False},
}


def of_layer(kind: type[bptt.layers.Recurrent], options: dict[str, Any], dtype: str) -> Any:
    layer = kind(5, 18, seed=3, dtype=dtype, **options)
    rng = np.random.default_rng(7)
    x = rng.standard_normal((4, 9, 5) if layer.batch_first else (9, 4, 5))
    y, state, tape = layer.forward(x, lengths=[9, 4, 0, 7])
    grads = layer.backward(tape, rng.standard_normal(y.shape), step_clip=("norm", 0.5))
    called = layer(x, lengths=[9, 4, 0, 7])
    return y, state, grads.params, grads.x, grads.state, called


def of_stream(kind: type[bptt.layers.Recurrent], dtype: str) -> Any:
    layer = kind(5, 18, 2, seed=3, dtype=dtype)
    stream = layer.stream(batch=2)
    x = np.random.default_rng(7).standard_normal((11, 2, 5))
    steps = [stream.step(a).copy() for a in x[:4]]
    return steps, stream.process(x[4:]), stream.state


def layers() -> Iterator[tuple[str, Callable[[], Any]]]:
    for kind in (bptt.RNN, bptt.LSTM, bptt.GRU, bptt.MGU, bptt.SLSTM, bptt.LSTM1997):
        for dtype in ("float32", "float64"):
            for name, options in LAYERS.items():
                yield (
                    f"{kind.__name__} {name} {dtype}",
                    lambda k=kind, o=options, d=dtype: of_layer(k, o, d),
                )
            yield f"{kind.__name__} stream {dtype}", lambda k=kind, d=dtype: of_stream(k, d)


# --- files ----------------------------------------------------------------------------------------


def bits() -> dict[str, str]:
    """The hash of every call, on the instruction set in use."""
    return {name: digest(call()) for source in (functions(), layers()) for name, call in source}


def read(isa: str) -> tuple[str, dict[str, str]] | None:
    """The compiler and the hashes in the file of an instruction set, if there is one."""
    path = FOLDER / f"{isa}.txt"
    if not path.exists():
        return None
    built_by, *lines = path.read_text("ascii").splitlines()
    return built_by, {name: value for value, name in (line.split(" ", 1) for line in lines)}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for isa in _core.isas():
        _core.use_isa(isa)
        lines = [compiler(), *(f"{value} {name}" for name, value in bits().items())]
        (FOLDER / f"{isa}.txt").write_text("\n".join(lines) + "\n", "ascii")
        print(f"{isa}: {len(lines) - 1} calls")


if __name__ == "__main__":
    main()
