# SPDX-License-Identifier: MIT
"""Measure how long long calls go on after Ctrl-C.

    python scripts/measure_interrupts.py [--times N]

Each call runs in a Python of its own, gets SIGINT at a random moment, and tells when it raised
KeyboardInterrupt. Prints milliseconds: the median and the longest of N. On a machine that has other
work, the longest is that of its scheduler.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import subprocess
import sys
import time

START = """
import signal, time
import numpy as np
import bptt

# A shell that starts jobs in the background lets them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

def zeros(*shape):
    return np.zeros(shape, np.float32)

weights, gru_weights = (zeros(1024, 64), zeros(1024, 256)), (zeros(768, 64), zeros(768, 256))
large = zeros(8192, 1024), zeros(8192, 2048)
tape = bptt.gru_forward(zeros(400, 512, 64), *gru_weights)[2]
stream = bptt.GRU(64, 256, num_layers=2).stream(64)
print(flush=True)
try:
    while True:
        {call}
except KeyboardInterrupt:
    print(time.monotonic())
"""
CALLS = {
    "many tiny steps": "bptt.rnn_forward(zeros(2**23, 1, 1), zeros(1, 1), zeros(1, 1))",
    "few huge steps": "bptt.lstm_forward(zeros(300, 4096, 64), *weights, keep_tape=False)",
    "one giant step": "bptt.lstm_forward(zeros(1, 8192, 1024), *large, keep_tape=False)",
    "backward": "bptt.gru_backward(tape)",
    "two threads": "bptt.lstm_forward(zeros(2**16, 1, 64), *weights, keep_tape=False, threads=2)",
    "a stream": "stream.process(zeros(2**12, 64, 64))",
    "derivatives": "bptt.jvp(bptt.gru_forward, {'x': zeros(400, 64, 64), 'w_ih': gru_weights[0], "
    "'w_hh': gru_weights[1]}, {})",
}  # fmt: skip


def milliseconds(call: str) -> float:
    command = [sys.executable, "-c", START.replace("{call}", call)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.3 + random.random())
        sent = time.monotonic()
        child.send_signal(signal.SIGINT)
        raised = float(child.stdout.readline())
    return 1e3 * (raised - sent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20, metavar="N")
    times = parser.parse_args().times
    print("| call | median, ms | longest, ms |\n|---|---|---|")
    for name, call in CALLS.items():
        measured = [milliseconds(call) for _ in range(times)]
        print(f"| {name} | {statistics.median(measured):.0f} | {max(measured):.0f} |", flush=True)


if __name__ == "__main__":
    main()
