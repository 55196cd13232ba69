# SPDX-License-Identifier: MIT
"""Long calls can be interrupted, and the interpreter can leave while one runs elsewhere."""

from __future__ import annotations

import signal

import pytest

import child

# Each of these would run for minutes if nothing stopped it.
CALLS = {
    "many tiny steps": "bptt.rnn_forward(zeros(2**20, 1, 1), zeros(1, 1), zeros(1, 1))",
    "few huge steps": (
        "bptt.lstm_forward(zeros(40, 4096, 64), zeros(2048, 64), zeros(2048, 512), keep_tape=False)"
    ),
    "backward": "bptt.gru_backward(tape, y)",
    "steps that threads share": (
        "bptt.lstm_forward(zeros(2**15, 1, 64), *weights, keep_tape=False, threads=4)"
    ),
    "sequences that threads share": (
        "bptt.lstm_forward(zeros(100, 1024, 64), *weights, keep_tape=False, threads=4)"
    ),
    "backward of threads": "bptt.gru_backward(tape, y, threads=4)",
    "backward of threads that share steps": "bptt.gru_backward(narrow, threads=4)",
    "values computed again": "bptt.gru_backward(short, threads=2)",
}
PROGRAM = """
import os, signal, threading
import numpy as np
import bptt

def zeros(*shape):
    return np.zeros(shape, np.float32)

# A shell that starts jobs in the background lets them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
weights, gru_weights = (zeros(1024, 64), zeros(1024, 256)), (zeros(768, 64), zeros(768, 256))
y, _, tape = bptt.gru_forward(zeros(60, 512, 64), *gru_weights)
narrow = bptt.gru_forward(zeros(3000, 2, 64), *gru_weights)[2]
short = bptt.gru_forward(zeros(3000, 2, 64), *gru_weights, checkpoint="sqrt")[2]
threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    for _ in range(1000):
        {call}
    print("never interrupted")
except KeyboardInterrupt:
    print("interrupted")
# What was stopped leaves nothing behind.
for kept in tape, narrow, short:
    state = np.ones((kept.dims[1], 256), np.float32)
    one, four = (bptt.gru_backward(kept, dstate=state, threads=n) for n in (1, 4))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one, four) if a is not None)
"""


def run(program: str) -> tuple[int, str, str]:
    done = child.run(program)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_signal_stops_a_long_call(call: str) -> None:
    assert run(PROGRAM.format(call=call)) == (0, "interrupted\n", "")


@pytest.mark.parametrize("threads", [1, 4])
def test_the_interpreter_leaves_while_a_thread_computes(threads: int) -> None:
    program = f"""
        import threading, time
        import numpy as np
        import bptt

        x, w_ih, w_hh = np.zeros((400, 16, 64)), np.zeros((1024, 64)), np.zeros((1024, 256))

        def work():
            while True:
                bptt.lstm_forward(x, w_ih, w_hh, keep_tape=False, threads={threads})

        threading.Thread(target=work, daemon=True).start()
        time.sleep(0.2)
    """
    for _ in range(3):
        assert run(program) == (0, "", "")
