# SPDX-License-Identifier: MIT
"""Tables of `benchmarks/costs.py` that need a process for each number: memory and imports.

For Linux only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import distribution

from .speed.costs import Table

CHILD = """
import resource, sys, time
import numpy as np
{imports}
def peak():  # MB; not ru_maxrss, which a process inherits
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
"""


def child(imports: str, body: str) -> list[float]:
    code = CHILD.format(imports=imports) + body
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return [float(v) for v in out.stdout.split()]


ARRAYS = """
n = lambda *s: np.random.default_rng(0).standard_normal(s, 'f') * np.float32(0.1)
T, B, I, H = {shape}
x, w, r, b, dy = n(T, B, I), n(4 * H, I), n(4 * H, H), n(4 * H), n(T, B, H)
dx, out = np.ones_like(x), np.ones_like(dy)  # pages of the results' size, touched and freed
del dx, out
start = peak()
"""
STEP = """
def step(**options):
    y, state, tape = bptt.lstm_forward(x, w, r, b, b, threads=1, **options)
    return bptt.lstm_backward(tape, dy, threads=1)
"""
TORCH_STEP = """
torch.set_num_threads(1)
layer = torch.nn.LSTM(I, H); tx = torch.from_numpy(x).requires_grad_(); td = torch.from_numpy(dy)
def step():
    y, _ = layer(tx); y.backward(td); layer.zero_grad(); tx.grad = None
"""


def memory() -> Table:
    """Peaks and page faults of training steps, and what stays after many."""
    rows = []
    once = "step(); print(peak() - start)"
    for shape in ((10_000, 1, 16, 128), (100, 32, 256, 256)):
        (ours,) = child("import bptt", ARRAYS.format(shape=shape) + STEP + once)
        (its,) = child("import torch", ARRAYS.format(shape=shape) + TORCH_STEP + once)
        rows.append([f"peak, {sizes(shape)}", f"{ours:.0f} MB", f"{its:.0f} MB"])
    long = (100_000, 1, 16, 128)
    for option in ("", "checkpoint='sqrt'", "checkpoint=1 << 24"):
        again = f"step({option}); print(peak() - start); best = 9.0\n"
        again += f"for _ in range(5):\n  t = time.perf_counter(); step({option})\n"
        again += "  best = min(best, time.perf_counter() - t)\nprint(best)"
        mb, seconds = child("import bptt", ARRAYS.format(shape=long) + STEP + again)
        what = f"peak and time, {sizes(long)}" + f", `{option}`" * bool(option)
        rows.append([what, f"{mb:.0f} MB, {seconds * 1e3:.0f} ms", ""])
    count = "for _ in range(5): step()\np = faults()\n"
    count += "for _ in range(100): step()\nprint((faults() - p) / 100)"
    medium2 = (100, 32, 256, 256)
    faulty = [
        f"{child(imports, ARRAYS.format(shape=medium2) + body + count)[0]:.0f}"
        for imports, body in (("import bptt", STEP), ("import torch", TORCH_STEP))
    ]
    rows.append([f"page faults of a step in steady state, {sizes(medium2)}", *faulty])
    small = (10, 4, 16, 32)
    grown = "step()\np = peak()\nfor _ in range(10000): step()\nprint(peak() - p)"
    (growth,) = child("import bptt", ARRAYS.format(shape=small) + STEP + grown)
    rows.append([f"growth over 10,000 steps, {sizes(small)}", f"{growth:.1f} MB", ""])
    return Table("Training an LSTM: memory beyond its data", "what | bptt | PyTorch", rows)


def sizes(shape: tuple[int, int, int, int]) -> str:
    return ", ".join(f"{name} = {n:,}" for name, n in zip("TBIH", shape))


def installed_bytes() -> int:
    """Of all files of the package but the compiled Python."""
    package = distribution("bptt")
    if json.loads(package.read_text("direct_url.json") or "{}").get("dir_info", {}).get("editable"):
        sys.exit("costs: imports are measured with bptt installed, not in place: pip install .")
    places = [os.fspath(file.locate()) for file in package.files or ()]
    return sum(os.path.getsize(place) for place in places if not place.endswith(".pyc"))


def imports() -> Table:
    def seconds(what: str) -> float:
        code = (
            f"import time; t = time.perf_counter(); import {what}; print(time.perf_counter() - t)"
        )
        runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
                for _ in range(15)]  # fmt: skip
        return min(float(run.stdout) for run in runs)

    numpy, ours = seconds("numpy"), seconds("numpy, bptt")
    rows = [
        ["import numpy", f"{numpy * 1e3:.0f} ms"],
        ["import bptt, beyond NumPy", f"{(ours - numpy) * 1e3:.0f} ms"],
        ["installed", f"{installed_bytes() / 1e6:.1f} MB"],
    ]
    return Table("Imports and size", "measurement | result", rows)
