# SPDX-License-Identifier: MIT
"""RNNoise in OBS Studio, and the speech detector of Opus, against their own C code.

Their weights are integers, to be divided by 256 or 128. The C code interpolates tanh in a table.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import bptt
from bptt._types import Array
from support.toolchain import needs, run
from support.zoo import assert_outputs, files_of
from support.zoo_formats import c_arrays

RNNOISE = [
    f"plugins/obs-filters/rnnoise/{name}"
    for name in ("src/rnn.c", "src/rnn_data.c", "src/rnn.h", "src/rnn_data.h", "src/arch.h",
                 "src/tansig_table.h", "src/opus_types.h", "src/common.h", "include/rnnoise.h")
]  # fmt: skip
OPUS = [
    *(f"src/{name}" for name in ("mlp.c", "mlp_data.c", "mlp.h", "tansig_table.h")),
    *(f"include/{name}" for name in ("opus_types.h", "opus_defines.h")),
    "celt/arch.h",
]
T = 200


def dense(a: Mapping[str, Array], name: str, outputs: int, scale: int, activation: str) -> Any:
    w, b = a[f"{name}_weights"].reshape(-1, outputs).T / scale, a[f"{name}_bias"] / scale
    arrays = {"d.weight": w, "d.bias": b}
    return bptt.load_model(arrays, "d", dtype="float32", activation=activation)


def gru(a: Mapping[str, Array], name: str, H: int, scale: int, activation: str) -> bptt.GRU:
    recurrent = a.get(f"{name}_recurrent_weights", a.get(f"{name}_recur_weights"))
    assert recurrent is not None
    w, u, b = (v / scale for v in (a[f"{name}_weights"], recurrent, a[f"{name}_bias"]))
    return bptt.layer_from_arrays(
        "gru", w.reshape(-1, 3 * H), u.reshape(H, 3 * H), b, gates="zrh", transposed=True,
        reset_after=False, activation=activation, dtype="float32",
    )  # fmt: skip


def compiled(folder: Path, sources: list[Path], code: str) -> Any:
    """The package's own C code as a library, with a loop over time in `code`."""
    needs("cc")
    (folder / "loop.c").write_text(code)
    includes = {f"-I{path.parent}" for path in sources}
    program = folder / "loop.so"
    run("cc", "-O1", "-shared", "-fPIC", "-o", program, *includes, folder / "loop.c", "-lm")
    return ctypes.CDLL(str(program))


def pointer(array: Array) -> Any:
    return array.ctypes.data_as(ctypes.c_void_p)


def test_rnnoise(tmp_path: Path) -> None:
    files = list(files_of("obs-studio", RNNOISE, tmp_path).values())
    a = c_arrays(files[1].read_text("latin1"))
    first = dense(a, "input_dense", 24, 256, "tanh")
    vad, noise, denoise = (
        gru(a, f"{name}_gru", H, 256, "relu")
        for name, H in (("vad", 24), ("noise", 48), ("denoise", 96))
    )
    vad_out = dense(a, "vad_output", 1, 256, "sigmoid")
    out = dense(a, "denoise_output", 22, 256, "sigmoid")

    x = np.random.default_rng(0).normal(size=(T, 1, 42)).astype(np.float32)
    h = first(x)
    v, _ = vad(h)
    n, _ = noise(np.concatenate([h, v, x], -1))
    d, _ = denoise(np.concatenate([v, n, x], -1))
    got = np.concatenate([out(d), vad_out(v)], -1)[:, 0]

    library = compiled(tmp_path, files, RNNOISE_LOOP)
    want = np.zeros((T, 23), np.float32)
    library.loop(T, pointer(x), pointer(want))
    assert_outputs("RNNoise", got, want)


RNNOISE_LOOP = """
#include "rnn.c"
#include "rnn_data.c"
void loop(int steps, const float *x, float *y) {
  float vad[24] = {0}, noise[48] = {0}, denoise[96] = {0};
  RNNState state = {&rnnoise_model_orig, vad, noise, denoise};
  for (int t = 0; t < steps; ++t) compute_rnn(&state, y + 23 * t, y + 23 * t + 22, x + 42 * t);
}
"""


def test_opus(tmp_path: Path) -> None:
    files = list(files_of("opus", OPUS, tmp_path).values())
    a = c_arrays(files[1].read_text("latin1"))
    first, out = dense(a, "layer0", 32, 128, "tanh"), dense(a, "layer2", 2, 128, "sigmoid")
    layer = gru(a, "layer1", 24, 128, "tanh")

    x = np.random.default_rng(0).normal(size=(T, 1, 25)).astype(np.float32)
    got = out(layer(first(x))[0])[:, 0]

    library = compiled(tmp_path, files, OPUS_LOOP)
    want = np.zeros((T, 2), np.float32)
    library.loop(T, pointer(x), pointer(want))
    assert_outputs("Opus", got, want)


OPUS_LOOP = """
#include <math.h>
#include "mlp.c"
#include "mlp_data.c"
void loop(int steps, const float *x, float *y) {
  float state[MAX_NEURONS] = {0}, first[MAX_NEURONS];
  for (int t = 0; t < steps; ++t) {
    compute_dense(&layer0, first, x + 25 * t);
    compute_gru(&layer1, state, first);
    compute_dense(&layer2, y + 2 * t, state);
  }
}
"""
