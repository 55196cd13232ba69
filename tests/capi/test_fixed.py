# SPDX-License-Identifier: MIT
"""bptt/fixed.hpp: a program with layers of many sizes, compiled here, gives the core's numbers."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import bptt
from bptt import _core
from support.compare import TOLERANCE
from support.paths import ROOT
from support.toolchain import needs, run

INCLUDE = ROOT / "cpp" / "include"
# What authors of plug-ins compile with.
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Wold-style-cast"]
WARNINGS += ["-Wdouble-promotion", "-Wextra-semi", "-Wpedantic", "-Werror"]
STEPS = 60
# As in tests/cpp/fixed.cpp.
SIZES = {
    np.float32: [(1, 1), (2, 3), (3, 8), (5, 16), (8, 17), (1, 40)],
    np.float64: [(2, 3), (8, 17)],
}
FORWARD = {1: bptt.rnn_forward, 3: bptt.gru_forward, 4: bptt.lstm_forward}


class Build(NamedTuple):
    compiler: str
    options: str
    isa: str | None = None  # of the core, where the options need it
    runner: str = ""


X86 = [
    Build("g++", "-O1 -march=x86-64"),
    Build("g++", "-O3 -march=x86-64-v4", "avx512"),
    Build("g++", "-O2 -march=x86-64-v3 -ffast-math", "avx2"),
    Build("clang++", "-O1 -march=x86-64 -ffast-math"),
    Build("clang++", "-O3 -march=x86-64-v3", "avx2"),
    Build("aarch64-linux-gnu-g++", "-O2 -static", runner="qemu-aarch64"),
]
OTHERS = [Build("g++", "-O1"), Build("g++", "-O3"), Build("clang++", "-O3")]
BUILDS = X86 if platform.machine() in {"x86_64", "AMD64"} else OTHERS


def compiled(build: Build, source: Path, output: Path, *more: str) -> Path:
    command = [build.compiler, "-std=c++17", *build.options.split(), *WARNINGS, *more]
    command += ["-I", str(INCLUDE), str(source), "-o", str(output)]
    run(*command)
    return output


def case(dtype: Any, gates: int, i: int, h: int, kind: str) -> tuple[bytes, list[np.ndarray]]:
    """What the program reads, and what it should answer."""
    rng = np.random.default_rng([gates, i, h])
    shapes = [(gates * h, i), (gates * h, h), (gates * h,), (gates * h,), (2, h), (2,)]
    arrays = [rng.uniform(-1, 1, shape).astype(dtype) for shape in shapes]
    arrays[1] /= dtype(np.sqrt(h))  # else an RNN is chaotic, and rounding grows
    x = (3 * rng.normal(size=(STEPS, i))).astype(dtype)
    if kind == "loud":
        x[10], x[20] = 1e4, -1e4  # every gate at its limits
    elif kind == "quiet":
        x *= dtype(1e-6)
        arrays[2][:] = arrays[3][:] = arrays[5][:] = 0
    else:
        x[30:] = np.nan
    header = np.array([np.dtype(dtype).itemsize, gates, i, h, STEPS], np.int32)
    y, state, _ = FORWARD[gates](x[:, None], *arrays[:4])
    expected = [y[:, 0], y[:, 0] @ arrays[4].T + arrays[5]]
    if gates == 4:
        expected.append(state[1][0])
    return b"".join(array.tobytes() for array in (header, *arrays, x)), expected


@pytest.mark.parametrize("build", BUILDS, ids=lambda b: f"{b.compiler} {b.options}")
def test_steps_give_the_numbers_of_the_core(build: Build, tmp_path: Path) -> None:
    needs(build.compiler, *build.runner.split())
    if build.isa and build.isa not in _core.isas():
        pytest.skip(f"{build.isa} does not run here")
    program = compiled(build, ROOT / "tests" / "cpp" / "fixed.cpp", tmp_path / "fixed")
    kinds = ["loud", "quiet"] if "fast-math" in build.options else ["loud", "quiet", "nan"]
    cases = [
        (dtype, gates, size, kind, *case(dtype, gates, *size, kind))
        for dtype in (np.float32, np.float64)
        for gates in FORWARD
        for size in SIZES[dtype]
        for kind in kinds
    ]
    output = subprocess.run(
        [*build.runner.split(), str(program)],
        input=b"".join(given for *_, given, _ in cases),
        capture_output=True,
        check=True,
        timeout=300,
    ).stdout
    for dtype, gates, size, kind, _, wanted in cases:
        for expected in wanted:
            got = np.frombuffer(output[: expected.nbytes], dtype).reshape(expected.shape)
            output = output[expected.nbytes :]
            scale = np.abs(expected[np.isfinite(expected)]).max(initial=0)
            np.testing.assert_allclose(
                got,
                expected,
                0,
                TOLERANCE[np.dtype(dtype).name] * scale,
                err_msg=f"{gates} {size} {kind}",
            )
    assert not output


@pytest.mark.skipif(BUILDS is not X86, reason="for x86-64")
def test_targets_share_no_symbol(tmp_path: Path) -> None:
    """A linker would keep one copy for all targets, and CPUs meet instructions they lack."""
    needs("g++", "nm")
    source = tmp_path / "layer.cpp"
    source.write_text(
        '#include "bptt/fixed.hpp"\n'
        "float f(bptt::Lstm<1, 3>& l, const float* x) { return *l.step(x); }\n"
    )
    seen: set[str] = set()
    for target in ("x86-64", "x86-64-v3", "x86-64-v4"):
        build = Build("g++", f"-O0 -march={target}")  # -O0 keeps functions that -O2 inlines away
        output = compiled(build, source, tmp_path / f"{target}.o", "-c")
        symbols = [line.split() for line in run("nm", output).splitlines()]
        weak = {symbol[-1] for symbol in symbols if symbol[-2] in "WV"}
        assert weak
        assert not weak & seen
        seen |= weak


LIBRARY = """
#include "bptt/fixed.hpp"
extern "C" {
LAYERS
}
"""
LAYER = """
void load{n}({layer}& l, const {t}* w) {{ l.load(w, w, w, w); l.reset(); }}
const {t}* step{n}({layer}& l, const {t}* x) {{ return l.step(x); }}
void copy{n}({layer}& a, const {layer}& b) {{ a = b; }}
"""


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_an_object_calls_nothing_but_string_functions(compiler: str, tmp_path: Path) -> None:
    """No allocation, no exception, no run-time type: nothing to link to."""
    needs(compiler, "nm")
    types = [(cell, t) for cell in ("Lstm", "Gru", "Rnn") for t in ("float", "double")]
    layers = "".join(
        LAYER.format(n=n, layer=f"bptt::{cell}<2, 13, {t}>", t=t)
        for n, (cell, t) in enumerate(types)
    )
    layers += "const float* dense(bptt::Dense<13, 3>& l, const float* w) "
    layers += "{ l.load(w, w); return l.step(w); }"
    source = tmp_path / "layers.cpp"
    source.write_text(LIBRARY.replace("LAYERS", layers))
    flags = ["-fno-exceptions", "-fno-rtti"]  # and without them: nothing else changes
    for i, more in enumerate(([], flags)):
        output = compiled(Build(compiler, "-O2"), source, tmp_path / f"{i}.o", "-c", *more)
        assert set(run("nm", "-u", output).replace("U", "").split()) <= {"memcpy", "memset"}
