# SPDX-License-Identifier: MIT
"""Long calls can be interrupted, and the interpreter can leave while one runs elsewhere."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

# Each of these would run for minutes if nothing stopped it.
CALLS = {
    "many tiny steps": "bptt.rnn_forward(zeros(2**20, 1, 1), zeros(1, 1), zeros(1, 1))",
    "few huge steps": (
        "bptt.lstm_forward(zeros(40, 4096, 64), zeros(2048, 64), zeros(2048, 512), keep_tape=False)"
    ),
    "backward": "bptt.gru_backward(tape, y)",
}
PROGRAM = """
import os, signal, threading
import numpy as np
import bptt

def zeros(*shape):
    return np.zeros(shape, np.float32)

# A shell that starts jobs in the background lets them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
y, _, tape = bptt.gru_forward(zeros(60, 512, 64), zeros(768, 64), zeros(768, 256))
threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    for _ in range(1000):
        {call}
    print("never interrupted")
except KeyboardInterrupt:
    print("interrupted")
bptt.gru_backward(tape)  # what was stopped leaves nothing behind
"""


def run(program: str, timeout: float = 50) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_signal_stops_a_long_call(call: str) -> None:
    done = run(PROGRAM.format(call=call))
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_the_interpreter_leaves_while_a_thread_computes() -> None:
    program = """
        import threading, time
        import numpy as np
        import bptt

        x, w_ih, w_hh = np.zeros((400, 16, 64)), np.zeros((1024, 64)), np.zeros((1024, 256))

        def work():
            while True:
                bptt.lstm_forward(x, w_ih, w_hh, keep_tape=False)

        threading.Thread(target=work, daemon=True).start()
        time.sleep(0.2)
    """
    for _ in range(3):
        done = run(program)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
