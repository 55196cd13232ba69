# SPDX-License-Identifier: MIT
"""Count the instructions of a step: how many beside its products and equations?

    python benchmarks/instructions.py            # a table, in about two minutes
    python benchmarks/instructions.py --check    # exit code 1 if a count is above its bound

One sequence, one input, float32, AVX2 kernels. valgrind counts what a process executes, so a
neighbour on the machine changes nothing. One process makes every call with 100 steps; the others
make one of the calls with 5100, and the difference is 5000 steps of that call.

*needed* is, for each step,

* a multiply-add for each vector of a product, and a broadcast of its left operand for every eight
  of them forward, every four backward; for gradients of weights 19 for 12 multiply-adds
  (a tile of 3 inputs and 4 vectors also loads 4 vectors and broadcasts 3 inputs);
* the equations of each block of 8 units, with the loads and stores of their arguments and results:
  EQUATIONS, the other vector instructions of the compiled loops (GCC 12).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

LANES = 8
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
EQUATIONS = {"rnn": (42, 15), "lstm": (117, 62), "gru": (80, 33)}  # forward, backward
PASSES = ("inference", "training", "stream")
# The most instructions of a step: the counts of this version, and a twentieth more.
BOUNDS: dict[tuple[str, int, str], int] = {}
CASES = [(cell, H, kind) for cell in GATES for H in (8, 32) for kind in PASSES]
FEW, MANY = 100, 5100


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


def calls(steps: dict[tuple[str, int, str], int]) -> None:
    """One call of each case."""
    import numpy as np

    import bptt

    x = np.sin(np.arange(MANY)).astype(np.float32).reshape(MANY, 1, 1)
    dy = {H: np.ones((MANY, 1, H), np.float32) for _, H, _ in steps}
    for (cell, H, kind), T in steps.items():
        shapes = [(GATES[cell] * H, 1), (GATES[cell] * H, H), (GATES[cell] * H,)]
        w_ih, w_hh, b = [np.full(shape, 0.1, np.float32) for shape in shapes]
        forward = getattr(bptt, f"{cell}_forward")
        if kind == "stream":
            getattr(bptt, cell.upper())(1, H).stream().process(x[:T])
        elif kind == "inference":
            forward(x[:T], w_ih, w_hh, b, b, keep_tape=False)
        else:
            _, _, tape = forward(x[:T], w_ih, w_hh, b, b)
            getattr(bptt, f"{cell}_backward")(tape, dy[H][:T])


def child(longer: int | None) -> int:
    """The instructions of a process in which the call with this number has MANY steps."""
    environment = dict(os.environ, BPTT_ISA="avx2", BPTT_NUM_THREADS="1", PYTHONHASHSEED="0")
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    command += [__file__, "--child", str(-1 if longer is None else longer)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"instructions: valgrind failed:\n{done.stderr}")
    return int(found[1])


def counts() -> dict[tuple[str, int, str], int]:
    """Instructions of a step in each case."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        base, *totals = pool.map(child, [None, *range(len(CASES))])
    return {
        case: round((total - base) / (MANY - FEW))
        for case, total in zip(CASES, totals, strict=True)
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit code 1 above a bound")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child is not None:
        calls({case: MANY if i == options.child else FEW for i, case in enumerate(CASES)})
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
