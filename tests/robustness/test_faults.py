# SPDX-License-Identifier: MIT
"""No memory: a MemoryError, nothing lost, and the same call succeeds when there is some."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support import child
from support.toolchain import needs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of Linux")

# --- every single allocation of the core fails once


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> str:
    needs("c++")
    library = tmp_path_factory.mktemp("faults") / "fail_allocation.so"
    source = Path(__file__).with_name("fail_allocation.cpp")
    command = ["c++", "-std=c++17", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run([*command, "-ldl"], check=True, timeout=120)
    return str(library)


CALLS = {
    "training": """
        layer = bptt.LSTM(5, 33, num_layers=2, bidirectional=True, seed=0)

        def call():
            y, state, tape = layer.forward(x)
            g = layer.backward(tape, np.ones_like(y), step_clip=("norm", 1.0), cut=9)
            return [y, *state, tape.i, g.x, *g.state, *g.params.values()]
    """,
    "all that can be asked for": """
        H, P = 33, 7

        def random(*shape):
            return rng.standard_normal(shape).astype("f4")

        arrays = dict(
            w_ih=random(4 * H, 5), w_hh=random(4 * H, P), b_ih=random(4 * H), b_hh=random(4 * H),
            state=(random(3, P), random(3, H)), peepholes=random(3, H), w_hr=random(P, H),
            layer_norm=(random(4 * H), random(4 * H), random(H), random(H)), h_mask=random(3, P),
            zoneout=(0.5, rng.random((200, 3, H))),
        )

        def call():
            y, state, tape = bptt.lstm_forward(x, **arrays, lengths=lengths, resets=resets, skip=2)
            g = bptt.lstm_backward(tape, y, step_clip=("norm", 1.0), trace="full")
            return [y, *state, tape.c, *g[:5], *g.state, g.peepholes, g.w_hr, *g.layer_norm,
                    g.trace.dh, *g.trace.gates.values()]
    """,
    "values computed again": """
        layer = bptt.GRU(5, 33, seed=0)

        def call():
            y, state, tape = layer.forward(x, lengths=lengths, checkpoint="sqrt")
            g = layer.backward(tape, np.ones_like(y))
            return [y, state, g.x, g.state, *g.params.values()]
    """,
    "threads": """
        w_ih, w_hh = rng.standard_normal((2, 512, 128)).astype("f4") * 0.1

        def call():
            y, h, tape = bptt.lstm_forward(wide, w_ih, w_hh, threads=3)
            return [y, *h, *bptt.lstm_backward(tape, y, threads=3)[:3]]
    """,
    "inference": """
        layer = bptt.SLSTM(5, 33, seed=0)

        def call():
            y, state = layer(x, lengths=lengths)
            return [y, *state]
    """,
    "a stream": """
        layer = bptt.GRU(5, 33, num_layers=3, seed=0)
        kept = layer.stream(3)

        def unless_it_fails(function, x):
            before = kept.state
            try:
                return function(x)
            except MemoryError:
                assert kept.state.tobytes() == before.tobytes()
                raise

        def call():
            kept.reset()
            kept.state = layer.stream(3).state + 0.5
            y = [unless_it_fails(kept.step, x_t) for x_t in x[:3]]
            return [*y, unless_it_fails(kept.process, x[3:]), kept.state]
    """,
    "derivatives": """
        w_ih, w_hh = rng.standard_normal((2, 12, 4))
        x4 = rng.standard_normal((6, 2, 4))

        def call():
            inputs = {"x": x4, "w_ih": w_ih, "w_hh": w_hh}
            y, h, dy, dh = bptt.jvp(bptt.gru_forward, inputs, {"w_ih": w_ih})
            return [y, h, dy, dh]
    """,
}
PROGRAM = """
import ctypes
import numpy as np
import bptt

library = ctypes.CDLL(None)
rng = np.random.default_rng(0)
x = rng.standard_normal((200, 3, 5)).astype("f4")
wide = rng.standard_normal((40, 8, 128)).astype("f4")
lengths, resets = [200, 7, 0], rng.random((200, 3)) < 0.1

{setting}

def bits():
    return [a.tobytes() for a in call()]

want, tried, failed = bits(), 0, 0
while True:
    library.fail_after(tried)
    try:
        got = bits()  # without that memory as well: a thread less, say
    except MemoryError:
        failed += 1
        got = None
    reached = library.allocations() > tried
    library.fail_after(-1)
    assert got in (None, want) and bits() == want, tried
    if not reached:
        break
    tried += 1
print(tried, failed)
"""


@pytest.mark.parametrize("setting", CALLS.values(), ids=CALLS.keys())
def test_any_allocation_of_the_core_may_fail(failing: str, setting: str) -> None:
    program = PROGRAM.replace("{setting}", child.dedent(setting))
    tried, failed = map(int, child.output(program, 120, LD_PRELOAD=failing).split())
    assert tried >= failed > 1


def test_any_allocation_of_python_inside_the_core_may_fail() -> None:
    """Not every allocation of a whole call: NumPy 2.4 itself ends the process at some."""
    pytest.importorskip("_testcapi")
    program = """
        import functools
        import _testcapi
        import numpy as np
        import bptt
        from bptt import _core

        made = []  # calls of the core

        def recorded(name):
            real = getattr(_core, name)

            def record(*args):
                made.append(functools.partial(real, *args))
                return real(*args)

            setattr(_core, name, record)

        for name in ("forward", "backward", "stream"):
            recorded(name)
        layer = bptt.LSTM(5, 33, bias=False, seed=0)
        x = np.ones((200, 3, 5), np.float32)
        y, _, tape = layer.forward(x, lengths=[200, 7, 0])
        layer.backward(tape, y, trace="full")
        layer.stream(3)
        cell, stream = tape.cells[0], made[-1]()
        made += [lambda: cell.i, lambda: cell.names, lambda: cell.dims, lambda: cell.arguments]
        made += [lambda: stream.step(x[0], None), lambda: stream.process(x, None)]
        made += [stream.get_state]

        def bits(got):
            if isinstance(got, np.ndarray):
                return got.tobytes()
            return [bits(part) for part in got] if isinstance(got, tuple) else None

        state, failures = stream.get_state(), []
        for call in made:
            want, n, well = bits(call()), 0, 0
            stream.set_state(state)
            while well < 20:
                n += 1
                _testcapi.set_nomemory(n, n + 1)
                try:
                    got = call()
                except MemoryError:
                    got, well = None, 0
                    failures.append(call)
                else:
                    well += 1
                finally:
                    _testcapi.remove_mem_hooks()
                if got is None:
                    got = call()
                assert bits(got) == want, n
                stream.set_state(state)
        print(len(made), len(set(failures)))
    """
    calls, failed = map(int, child.output(program).split())
    assert calls == 10
    assert failed > 5


# --- an address space that is too small for the request

SMALL_SPACE = """
import os, resource, tempfile
import numpy as np
import bptt
from bptt import optim

def limit(more):
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + more if more else -1, -1))

def bits(arrays):
    return [a.tobytes() for a in arrays]

def train(x):
    y, state, tape = layer.forward(x)
    grads = layer.backward(tape, y)
    return bits([y, *state, grads.x, *grads.params.values()])

def everything():
    parts = layer, masked, adam
    kept = [*adam.params.values(), *(a for part in parts for a in part.state_dict().values())]
    return bits([*kept, *stream.state, *bptt.load(path).values()]), os.listdir(folder)

rng = np.random.default_rng(0)
shapes = (3, 32, 64), (100, 32, 64), (100, 500, 64)
small, large, larger = (rng.standard_normal(shape).astype("f4") for shape in shapes)
layer = bptt.LSTM(64, 256, seed=0)
masked = bptt.LSTM(64, 256, 2, dropout=0.5, zoneout=0.1, seed=0)
y, _, tape = layer.forward(larger[:, :256])
stream = layer.stream()
stream.process(small[:, :1])
adam = optim.Adam({"w": np.ones((2000, 4096), np.float32)})
folder = tempfile.mkdtemp()
path = os.path.join(folder, "model.safetensors")
bptt.save(path, adam.params)

calls = {
    "forward": lambda: layer.forward(larger),
    "forward with masks": lambda: masked.forward(larger),
    "backward": lambda: layer.backward(tape, y, trace="full"),
    "inference": lambda: layer(larger),
    "a new stream": lambda: layer.stream(40_000),
    "process": lambda: stream.process(np.broadcast_to(small[:1, :1], (100_000, 1, 64))),
    "a step of Adam": lambda: adam.step({"w": np.broadcast_to(0.5, (2000, 4096))}),
    "a new optimiser": lambda: optim.SGD(adam.params),
    "load": lambda: bptt.load(path),
    "save": lambda: bptt.save(path, {"w": np.broadcast_to(1.0, (2000, 4096))}),
    "a new layer": lambda: bptt.GRU(512, 4096),
    "jvp": lambda: bptt.jvp(bptt.rnn_forward, {"x": large, **rnn}, {"x": large}),
}
rnn = {"w_ih": np.ones((2048, 64)), "w_hh": np.ones((2048, 2048))}
before, of_small, of_large = everything(), train(small), train(large)
for name, call in calls.items():
    limit(16 << 20)
    try:
        call()
        print(name, "does with 16 MiB")
    except MemoryError:
        assert train(small) == of_small, name
    limit(None)
    assert everything() == before, name
assert train(large) == of_large
limit(1 << 20)
adam.step({"w": np.broadcast_to(np.float32(0.5), (2000, 4096))})  # takes no memory
assert np.ptp(adam.params["w"]) == 0
limit(None)
auto, grads = bptt.AutoClip(0.5), {k: np.ones(1_500_000, np.float32) for k in "vw"}
auto._add(1.0)
kept = bits([*grads.values(), *auto.state_dict().values()])
for more in (8 << 20, 16 << 20):  # it takes 12 MB, for one array in float64, or fails at once
    limit(more)
    try:
        bptt.clip_grad_norm(grads, auto)
        failed = False
    except MemoryError:
        failed = True
    limit(None)
    assert failed == (more == 8 << 20)
    assert (bits([*grads.values(), *auto.state_dict().values()]) == kept) == failed
assert len(auto.history) == 2
assert abs(np.linalg.norm(np.float64([*grads.values()])) / auto.bound - 1) < 1e-6
"""


def test_a_call_without_memory_loses_nothing() -> None:
    # What is freed leaves the address space, or later calls might do with it.
    mapped = {"MALLOC_MMAP_THRESHOLD_": "65536"}
    assert child.output(SMALL_SPACE, BPTT_NUM_THREADS="1", **mapped) == ""
