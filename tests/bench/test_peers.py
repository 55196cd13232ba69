# SPDX-License-Identifier: MIT
"""`bptt bench` gives every library the same work, and times no wrong results."""

import contextlib
import importlib.util
import os
import subprocess

import numpy as np
import pytest

from bptt.bench import worker
from bptt.bench.peers import PEERS, TOLERANCE
from bptt.bench.workloads import POINTS, disagreement, flops, problem
from bptt.cli import main
from support.paths import ROOT

FAST = ["--seconds", "0", "--repeats", "2"]


# --- what is measured -----------------------------------------------------------------------------


def test_flops():
    # An LSTM of medium: 4 gates of 128 from 256 numbers, 3200 times; and as written out by hand.
    assert flops("lstm", POINTS["medium"], "inference") == 2 * 3200 * 4 * 128 * 256
    assert flops("lstm", POINTS["medium"], "training") == 3 * 2 * 3200 * 4 * 128 * 256
    assert flops("rnn", POINTS["stream32"], "inference") == 2 * 32 * 64


def test_problem_is_the_same_each_time_and_float32():
    one, two = problem("lstm", POINTS["small"]), problem("lstm", POINTS["small"])
    arrays = [one.x, *one.weights, *one.state, one.dy]
    for a, b in zip(arrays, [two.x, *two.weights, *two.state, two.dy]):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == np.float32
    assert [a.shape for a in arrays] == [
        (100, 16, 32), (256, 32), (256, 64), (256,), (256,), (16, 64), (16, 64), (100, 16, 64)
    ]  # fmt: skip


def test_a_stream_carries_its_state():
    bench_ = worker.Bench("bptt")
    seen = []
    for carry in (True, False):
        states = []

        def step(state, states=states):
            states.append(state)
            return "y", state + 1

        bench_.job = PEERS["bptt"].prepare("rnn", False, problem("rnn", POINTS["stream32"]))
        bench_.job = bench_.job._replace(run=step, state=0)
        bench_.carry = carry
        bench_.run(3)
        seen.append(states)
    assert seen == [[0, 1, 2], [0, 0, 0]]


# --- the libraries --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def onednn(tmp_path_factory):
    """The environment of the benchmark's own library, built if oneDNN can be found."""
    if os.environ.get("BPTT_ONEDNN"):
        return {}
    file = tmp_path_factory.mktemp("onednn") / "libbptt_onednn.so"
    source = ROOT / "benchmarks" / "onednn" / "onednn_rnn.cpp"
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    with contextlib.suppress(OSError):
        command = ["g++", *flags, str(source), "-ldnnl", "-o", str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
        # Whoever has oneDNN can build this.
        assert done.returncode == 0 or "dnnl.hpp: No such file" in done.stderr, done.stderr
    return {"BPTT_ONEDNN": str(file)}


@pytest.mark.parametrize("peer", [name for name in PEERS if name != "bptt"])
def test_each_library_agrees_with_bptt(peer, onednn, monkeypatch, capsys):
    for name, value in onednn.items():
        monkeypatch.setenv(name, value)
    if PEERS[peer].missing():
        pytest.skip(PEERS[peer].missing())
    arguments = ["--points", "tiny,stream32", "--peers", peer, "--seconds", "0", "--repeats", "1"]
    assert main(["bench", *arguments]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()[1 : 1 + 9]]
    for line in table:
        stream = POINTS[line[1]].stream
        timed = line[2] in PEERS[peer].passes and (PEERS[peer].streams or not stream)
        assert len(line) == (10 if timed else 7), line


def test_missing_libraries_are_reported_and_left_out(monkeypatch, capsys):
    find = importlib.util.find_spec
    hidden = ("onnx", "jax", "torch", "openvino", "tensorflow", "matplotlib")
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n in hidden else find(n))
    monkeypatch.setenv("BPTT_ONEDNN", "/no/such.so")
    few = ["--points", "stream32", "--cells", "rnn", "--peers", "all"]
    assert main(["bench", *few, *FAST]) == 0
    out, err = capsys.readouterr()
    assert 'it needs onnx (pip install "bptt[onnx]")' in err
    for name in ("jax", "torch", "openvino", "tensorflow"):
        assert f'{name} is left out: it needs {name} (pip install "bptt[{name}]")' in err
    for name in ("onednn", "onednn_packed"):
        assert f"{name} is left out: BPTT_ONEDNN is '/no/such.so', expected the library" in err
    assert 'torch_tuned is left out: it needs torch (pip install "bptt[torch]")' in err
    assert "reference" in out
    assert "jax" not in out
    assert main(["bench", *few, "--plot", "b.png"]) == 2
    assert 'pip install "bptt[plot]"' in capsys.readouterr().err


# --- wrong results are not timed ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "array"),
    [
        (lambda r: r["w"].__setitem__((1, 1), 3.001), "w"),
        (lambda r: r["y"].__setitem__(0, np.nan), "y"),
        (lambda r: r.update(y=np.ones(2)), "y"),
        (lambda r: r.pop("y"), "['w']"),
    ],
)
def test_disagreement_names_the_array(change, array):
    expected = {"y": np.ones(3), "w": np.full((2, 2), 3.0)}
    result = {name: a.copy() for name, a in expected.items()}
    assert disagreement(result, expected)[0] == 0
    change(result)
    error, name = disagreement(result, expected)
    assert error > TOLERANCE
    assert name.startswith(array)


@pytest.mark.parametrize("array", ["y", "final h", "gradient of w_hh", "gradient of h0"])
def test_disagreement_ends_the_run(array, failing_worker, tmp_path, capsys):
    failing_worker(f"""
right = PEERS["reference"].prepare
def wrong(*arguments):
    job = right(*arguments)
    def arrays(result):
        named = job.arrays(result)
        named[{array!r}] = named[{array!r}] + 1e-3 * abs(named[{array!r}]).max()
        return named
    return job._replace(arrays=arrays)
PEERS["reference"] = PEERS["reference"]._replace(prepare=wrong)
""")
    file = tmp_path / "b.json"
    few = ["--points", "tiny", "--cells", "gru", "--passes", "training", "--peers", "reference"]
    assert main(["bench", *few, *FAST, "--json", str(file)]) == 1
    out, err = capsys.readouterr()
    assert f"gru tiny training: reference disagrees with bptt: {array} has" in err
    assert out == ""
    assert not file.exists()


@pytest.mark.parametrize(
    ("wrong", "point"),
    [
        # It forgets the state that it is given: not seen in the first step of a stream.
        ("run=lambda state: job.run(job.state)", "stream32"),
        # It adds to what the call before has left: not seen in the results of the first.
        ("arrays=lambda r: {k: a * min(len(calls), 2) for k, a in job.arrays(r).items()}", "tiny"),
    ],
)
def test_later_calls_are_checked(wrong, point, failing_worker, capsys):
    failing_worker(f"""
right = PEERS["reference"].prepare
def prepare(*arguments):
    calls = []
    job = right(*arguments)
    job = job._replace(run=lambda state, run=job.run: calls.append(1) or run(state))
    return job._replace({wrong})
PEERS["reference"] = PEERS["reference"]._replace(prepare=prepare)
""")
    few = ["--points", point, "--cells", "rnn", "--peers", "reference", *FAST]
    assert main(["bench", *few]) == 1
    assert "reference disagrees with bptt" in capsys.readouterr().err
