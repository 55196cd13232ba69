# SPDX-License-Identifier: MIT
"""Long calls can be interrupted, and the interpreter can leave while one runs elsewhere."""

from __future__ import annotations

import signal

import pytest

from support import child

# Each of these would run for minutes if nothing stopped it, a forward call alone for seconds.
CALLS = {
    "many tiny steps": (
        "bptt.rnn_forward(zeros(2**25, 1, 1), zeros(1, 1), zeros(1, 1), keep_tape=False)"
    ),
    "few huge steps": "bptt.lstm_forward(zeros(500, 4096, 64), *weights, keep_tape=False)",
    "backward": "bptt.gru_backward(tape, y)",
    "steps that threads share": (
        "bptt.lstm_forward(zeros(2**18, 1, 64), *weights, keep_tape=False, threads=4)"
    ),
    "sequences that threads share": (
        "bptt.lstm_forward(zeros(2000, 256, 64), *weights, keep_tape=False, threads=4)"
    ),
    "backward of threads": "bptt.gru_backward(tape, y, threads=4)",
    "backward of threads that share steps": "bptt.gru_backward(narrow, threads=4)",
    "values computed again": "bptt.gru_backward(short, threads=2)",
}
PROGRAM = """
import os, signal, threading, time
import numpy as np
import bptt

def zeros(*shape):
    return np.zeros(shape, np.float32)

def send():
    while len(seen) < 3:
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

def handle(*_):
    seen.append(done)
    if len(seen) == 3:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

weights, gru_weights = (zeros(1024, 64), zeros(1024, 256)), (zeros(768, 64), zeros(768, 256))
y, _, tape = bptt.gru_forward(zeros(30, 256, 64), *gru_weights)
narrow = bptt.gru_forward(zeros(1000, 2, 64), *gru_weights)[2]
short = bptt.gru_forward(zeros(1000, 2, 64), *gru_weights, checkpoint="sqrt")[2]
done, seen = 0, []  # calls, and how many there were when a signal was handled
signal.signal(signal.SIGINT, handle)
threading.Thread(target=send).start()
try:
    while done < 1000:
        {call}
        done += 1
    print("never interrupted")
except KeyboardInterrupt:
    # Were signals handled between calls only, there would be one call for each.
    print("interrupted in", "one call" if len(set(seen)) == 1 else "several calls")
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
    code, output, errors = run(PROGRAM.format(call=call))
    assert (code, errors) == (0, "")
    assert output == "interrupted in one call\n" or (
        output == "interrupted in several calls\n" and "backward" in call
    )


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
def test_ctrl_c_ends_a_call_of_several_threads() -> None:
    """With the handler that Python starts with."""
    program = """
        import os, signal, threading
        import numpy as np
        import bptt

        # A shell that starts jobs in the background lets them ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        x, w_ih, w_hh = (np.zeros(s, np.float32) for s in ((2**18, 1, 64), (768, 64), (768, 256)))
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        bptt.gru_forward(x, w_ih, w_hh, threads=4)
    """
    code, output, errors = run(program)
    assert (code, output, errors.strip().splitlines()[-1]) == (-2, "", "KeyboardInterrupt")


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
