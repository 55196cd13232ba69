# SPDX-License-Identifier: MIT
"""The processes of `bptt bench`: their cores and threads, and that they end with the run."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bptt.bench import measure, worker
from bptt.bench.peers import PEERS
from bptt.cli import main

FAST = ["--seconds", "0", "--repeats", "2"]


needs_two_cores = pytest.mark.skipif(
    len(measure.allowed_cores() or []) < 2, reason="cannot pin to two cores here"
)


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are stopped only there")


@needs_two_cores
@pytest.mark.parametrize("threads", [1, 2])
def test_a_library_gets_as_many_cores_as_threads_and_is_told(threads, failing_worker, capsys):
    failing_worker("""
def tell(*arguments):
    told = {name: value for name, value in os.environ.items() if "THREADS" in name}
    raise LookupError(sorted(os.sched_getaffinity(0)), told)
PEERS["bptt"] = PEERS["bptt"]._replace(prepare=tell)
""")
    few = ["--points", "tiny", "--peers", "reference", *FAST]
    assert main(["bench", *few, "--threads", str(threads)]) == 1
    err = capsys.readouterr().err
    assert f"LookupError: ({measure.allowed_cores()[-threads:]}, " in err
    for name in ("BPTT_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        assert f"'{name}': '{threads}'" in err
    assert (", 2 threads" in err) == (threads == 2)


def test_a_library_gets_the_environment_that_it_needs(failing_worker, monkeypatch, capsys):
    failing_worker("""
def tell(*arguments):
    raise LookupError(os.environ["GLIBC_TUNABLES"])
PEERS["reference"] = PEERS["reference"]._replace(prepare=tell)
""")
    tuned = PEERS["torch_tuned"].environment
    monkeypatch.setitem(PEERS, "reference", PEERS["reference"]._replace(environment=tuned))
    assert main(["bench", "--points", "tiny", "--peers", "reference", *FAST]) == 1
    assert "LookupError: glibc.malloc.mmap_threshold=" in capsys.readouterr().err


@needs_two_cores
def test_each_number_of_threads_is_measured(tmp_path, capsys):
    file = tmp_path / "b.json"
    few = ["--points", "stream32", "--cells", "rnn", "--peers", "reference", "--threads", "2,1"]
    assert main(["bench", *few, *FAST, "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert report["threads"] == [r["threads"] for r in report["results"]] == [1, 2]
    assert list(report["fma_peak_gflops"]) == ["1", "2"]


@needs_two_cores
def test_the_probe_runs_on_each_core_at_once(monkeypatch):
    seen = []

    def rate(seconds):
        seen.append((threading.get_ident(), *os.sched_getaffinity(0)))
        return 100.0 + len(seen)

    monkeypatch.setattr(worker._core, "fma_gflops", rate)
    before = os.sched_getaffinity(0)
    assert worker.probe(1) == 105.0  # the best of five
    seen.clear()
    assert 2 * 105 <= worker.probe(2) <= 105 + 110
    assert sorted({core for _, core in seen}) == measure.allowed_cores()[:2]
    assert len(set(seen)) == 2
    assert os.sched_getaffinity(0) == before


@on_linux
def test_a_process_runs_only_while_it_is_asked():
    def stopped(worker):
        stat = Path(f"/proc/{worker.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    with measure.Worker("bptt", 1) as one, measure.Worker("reference", 1) as two:
        for asked in (one, two, one):
            with pytest.raises(RuntimeError, match="KeyError"):
                asked.ask("nothing")
            deadline = time.monotonic() + 10
            while not stopped(asked):
                assert time.monotonic() < deadline
        assert stopped(one)
        assert stopped(two)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("if sys.argv[1] == 'reference': os._exit(3)", "it ended with code 3"),
        ("PEERS['reference'] = PEERS['bptt']._replace(prepare=lambda *a: 1 / 0)", "ZeroDivision"),
    ],
)
def test_a_failing_process_ends_the_run(lines, message, failing_worker, capsys):
    failing_worker(lines)
    assert main(["bench", "--points", "tiny", "--peers", "reference", *FAST]) == 1
    err = capsys.readouterr().err
    assert "bench: reference failed in its process" in err
    assert message in err


def test_what_a_library_prints_does_not_disturb(failing_worker, capsys):
    failing_worker("""
right = PEERS["reference"].prepare
def noisy(*arguments):
    print("hello", flush=True)
    os.write(1, b"hello\\n")
    return right(*arguments)
PEERS["reference"] = PEERS["reference"]._replace(prepare=noisy)
""")
    few = ["--points", "tiny", "--cells", "rnn", "--passes", "inference", "--peers", "reference"]
    assert main(["bench", *few, *FAST]) == 0
    assert "hello" not in capsys.readouterr().out


@on_linux
def test_a_killed_run_leaves_no_process():
    code = (
        "import os, signal\n"
        "from bptt.bench.measure import Worker\n"
        "worker = Worker('bptt', 1)\n"
        "try: worker.ask('nothing')\n"
        "except RuntimeError: print(worker.process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    stat = Path(f"/proc/{int(done.stdout)}/stat")
    deadline = time.monotonic() + 10
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # then it is gone
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline


def test_an_interrupted_run_leaves_no_process(monkeypatch):
    started = []

    def interrupt(self, do, **request):
        started.append(self.process)
        assert self.process.poll() is None
        raise KeyboardInterrupt

    monkeypatch.setattr(measure.Worker, "ask", interrupt)
    assert main(["bench", "--points", "tiny", "--peers", "reference"]) == 130
    assert [process.poll() is None for process in started] == [False]
