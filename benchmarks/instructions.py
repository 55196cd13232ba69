# SPDX-License-Identifier: MIT
"""Count the instructions of a step: how many beside its products and equations?

    python benchmarks/instructions.py            # a table, in half a minute
    python benchmarks/instructions.py --check    # exit code 1 if a count is above its bound

One sequence, one input, float32, AVX2 kernels. valgrind counts what a process executes, so a
neighbour on the machine changes nothing. Each call is counted with 100 steps and with 2100, and the
difference is 2000 steps; the work of a call on its schedule is part of it.

*needed* is, for each step,

* a multiply-add for each vector of a product, and a broadcast of its left operand for every eight
  of them forward, every four backward; for gradients of weights 19 for 12 multiply-adds
  (a tile of 3 inputs and 4 vectors also loads 4 vectors and broadcasts 3 inputs);
* the equations of each block of 8 units, with the loads and stores of their arguments and results:
  EQUATIONS, the other vector instructions of the compiled loops (GCC 12).
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

LANES = 8
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
EQUATIONS = {"rnn": (42, 15), "lstm": (117, 62), "gru": (80, 33)}  # forward, backward
PASSES = ("inference", "training", "stream")
# The most instructions of a step: the counts of this version, and at most 6 % more.
BOUNDS = {
    ("rnn", 8, "inference"): 153,
    ("rnn", 8, "training"): 414,
    ("rnn", 8, "stream"): 155,
    ("rnn", 32, "inference"): 483,
    ("rnn", 32, "training"): 1360,
    ("rnn", 32, "stream"): 494,
    ("lstm", 8, "inference"): 262,
    ("lstm", 8, "training"): 747,
    ("lstm", 8, "stream"): 263,
    ("lstm", 32, "inference"): 1358,
    ("lstm", 32, "training"): 4064,
    ("lstm", 32, "stream"): 1374,
    ("gru", 8, "inference"): 213,
    ("gru", 8, "training"): 622,
    ("gru", 8, "stream"): 217,
    ("gru", 32, "inference"): 1077,
    ("gru", 32, "training"): 3251,
    ("gru", 32, "stream"): 1089,
}
CASES = [(cell, H, kind) for cell in GATES for H in (8, 32) for kind in PASSES]
FEW, MANY = 100, 2100


def needed(cell: str, H: int, kind: str) -> float:
    """The instructions of products and equations in one step."""
    blocks, gates = -(-H // LANES), GATES[cell]
    forward, backward = EQUATIONS[cell]
    vectors = (1 + H) * gates * blocks  # of the products with w_ih and w_hh
    count = vectors + (1 + H) * -(-gates * blocks // 8) + blocks * forward
    if kind == "training":
        sums = gates * blocks * LANES
        count += sums * (blocks + -(-blocks // 4))  # dh
        count += vectors * 19 / 12  # dw
        count += 2 * sums  # dx
        count += blocks * backward
    return count


def call(cell: str, H: int, kind: str) -> Callable[[int], None]:
    """A function of the number of steps."""
    import numpy as np

    import bptt

    x, dy = np.ones((MANY, 1, 1), np.float32), np.ones((MANY, 1, H), np.float32)
    shapes = [(GATES[cell] * H, 1), (GATES[cell] * H, H), (GATES[cell] * H,)]
    w_ih, w_hh, b = [np.full(shape, 0.1, np.float32) for shape in shapes]
    forward, backward = (getattr(bptt, f"{cell}_{name}") for name in ("forward", "backward"))
    stream = getattr(bptt, cell.upper())(1, H).stream()

    def run(T: int) -> None:
        if kind == "stream":
            stream.process(x[:T])
        elif kind == "inference":
            forward(x[:T], w_ih, w_hh, b, b, keep_tape=False)
        else:
            _, _, tape = forward(x[:T], w_ih, w_hh, b, b)
            backward(tape, dy[:T])

    return run


def calls() -> None:
    """Make three calls of each case, each through ffi_call(), where valgrind counts."""
    for case in CASES:
        run = call(*case)
        for T in (FEW, FEW, MANY):  # the first fills what stays from call to call
            ctypes.CFUNCTYPE(None)(partial(run, T))()


def counts() -> dict[tuple[str, int, str], int]:
    """Instructions of a step in each case."""
    environment = dict(os.environ, BPTT_ISA="avx2", BPTT_NUM_THREADS="1")
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/counts"]
        command += ["--toggle-collect=ffi_call", "--dump-after=ffi_call", sys.executable, __file__]
        done = subprocess.run(
            [*command, "--child"], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"instructions: valgrind failed:\n{done.stderr}")
        totals = []
        for i in range(3 * len(CASES)):
            text = (Path(folder) / f"counts.{i + 1}").read_text()
            totals.append(int(re.search(r"^totals: (\d+)", text, re.M)[1]))
    few, many = totals[1::3], totals[2::3]
    return {
        case: round((b - a) / (MANY - FEW)) for case, a, b in zip(CASES, few, many, strict=True)
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit code 1 above a bound")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        calls()
        return 0
    if not shutil.which("valgrind"):
        print("instructions: valgrind is not installed: apt-get install valgrind", file=sys.stderr)
        return 2
    above = 0
    print("| cell | H | pass | instructions a step | needed | beside | bound |\n|" + "---|" * 7)
    for case, n in counts().items():
        need, bound = round(needed(*case)), BOUNDS[case]
        above += n > bound
        mark = " above" if n > bound else ""
        print(f"| {case[0]} | {case[1]} | {case[2]} | {n} | {need} | {n - need} | {bound}{mark} |")
    return 1 if options.check and above else 0


if __name__ == "__main__":
    raise SystemExit(main())
