# SPDX-License-Identifier: MIT
"""`bptt bench` runs, says what it measured, and times no wrong results. No time is judged."""

import contextlib
import importlib.util
import io
import json
import sys

import numpy as np
import pytest

from bptt import bench
from bptt.bench.peers import PEERS, TOLERANCE
from bptt.bench.points import CELLS, POINTS, disagreement, flops, problem
from bptt.bench.report import CALM, calm, figures, rows
from bptt.cli import main

FAST = ["--seconds", "0", "--repeats", "2"]


@pytest.fixture
def failing_worker(tmp_path, monkeypatch):
    """Workers that first run the given lines, in which `PEERS` can be changed."""

    def install(lines):
        script = tmp_path / "worker.py"
        script.write_text(
            "import os, sys\n"
            "from bptt.bench import worker\n"
            "from bptt.bench.worker import PEERS\n"
            f"{lines}\n"
            "worker.main(sys.argv[1:])\n"
        )
        monkeypatch.setattr(bench, "_WORKER", [sys.executable, str(script)])

    return install


# --- the run --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run over two points and a stream, its report and what it printed."""
    folder = tmp_path_factory.mktemp("bench")
    arguments = ["--points", "tiny,small,stream32", "--peers", "reference", *FAST]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(["bench", *arguments, "--json", str(folder / "b.json")])
    assert code == 0
    return json.loads((folder / "b.json").read_text()), printed.getvalue().splitlines()


def test_report_holds_every_sample_and_the_machine(finished):
    report, _ = finished
    assert report["machine"].keys() >= {"cpu", "cores", "isa", "python", "numpy"}
    assert report["versions"] == {
        "bptt": report["versions"]["bptt"],
        "reference": "NumPy " + np.__version__,
    }
    assert report["settings"] == {"seconds": 0, "repeats": 2, "calm": CALM}
    assert (report["threads"], report["dtype"]) == (1, "float32")
    probes = [p for r in report["results"] for peer in r["peers"].values() for p in peer["probe"]]
    assert report["fma_peak_gflops"] == max(probes)
    measured = {(r["cell"], r["point"], r["pass"]) for r in report["results"]}
    assert measured == {
        (cell, point, mode)
        for cell in CELLS
        for point, mode in [
            ("tiny", "inference"),
            ("tiny", "training"),
            ("small", "inference"),
            ("small", "training"),
            ("stream32", "inference"),
        ]
    }
    for result in report["results"]:
        assert result["shape"] == list(POINTS[result["point"]])
        assert list(result["peers"]) == ["bptt", "reference"]
        for peer in result["peers"].values():
            assert peer["calls_per_sample"] == 1
            assert 0 <= peer["relative_error"] <= TOLERANCE
            for key in ("seconds", "cpu", "probe"):
                assert len(peer[key]) == 2
                assert min(peer[key]) > 0
            assert peer["disturbed"] == calm(peer, max(probes)).count(False)


def test_table_shows_the_report(finished):
    report, lines = finished
    heading, *body = rows(report)
    assert heading == ["cell", "point", "pass", "bptt ms", "% of peak", "reference ms", "ratio"]
    assert len(body) == len(report["results"])
    assert [line.split() for line in lines[: 1 + len(body)]] == [
        " ".join(row).split() for row in (heading, *body)
    ]
    text = "\n".join(lines[1 + len(body) :])
    assert "one thread" in text
    assert report["machine"]["cpu"] in text
    assert f"at best {report['fma_peak_gflops']:.0f} GFLOP/s" in text
    assert "left out where at least 3 others remain" in text


def test_share_of_the_peak_is_that_of_the_best_probe():
    peers = {"bptt": _sampled([2e-3] * 3, probe=[50, 100, 90])}
    result = {"cell": "rnn", "point": "tiny", "pass": "training", "flops": 1e8, "peers": peers}
    table = rows({"versions": {"bptt": ""}, "results": [result]})
    assert table[0][4] == "% of peak"
    assert table[1][4] == "50"  # 1e8 operations in 2 ms are 50 GFLOP/s, of 100


@pytest.mark.parametrize("peer", [name for name in PEERS if name != "bptt"])
def test_each_library_agrees_with_bptt(peer, capsys):
    missing = [name for name in PEERS[peer].modules if not importlib.util.find_spec(name)]
    if missing:
        pytest.skip(f"{missing} not installed")
    arguments = ["--points", "tiny,stream32", "--peers", peer, "--seconds", "0", "--repeats", "1"]
    assert main(["bench", *arguments]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()[1 : 1 + 9]]
    for line in table:
        timed = line[2] in PEERS[peer].passes
        assert len(line) == (9 if timed else 6), line


def test_picture_has_a_panel_for_each_cell_and_pass(finished):
    pytest.importorskip("matplotlib")
    from bptt.bench.report import draw

    report, _ = finished
    panels = draw(report).axes
    assert [p.get_title() for p in panels] == [
        f"{cell.upper()}, {mode}" for cell in CELLS for mode in ("inference", "training")
    ]
    for panel, points in zip(panels, [3, 2] * len(CELLS)):
        assert panel.get_yscale() == "log"
        assert len(panel.patches) == points
    stats = figures(report["results"])
    top = panels[0].patches[0]
    assert top.get_y() + top.get_height() == pytest.approx(stats[0]["reference"].ratio)


def test_picture_is_written(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file = tmp_path / "bench.svg"
    few = ["--points", "tiny", "--cells", "rnn", "--passes", "inference", "--peers", "reference"]
    assert main(["bench", *few, *FAST, "--plot", str(file)]) == 0
    assert "<svg" in file.read_text()
    assert [f.name for f in tmp_path.iterdir()] == ["bench.svg"]


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
    from bptt.bench.worker import Bench

    bench_ = Bench("bptt")
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


def _sampled(seconds, cpu=None, probe=None):
    return {"seconds": seconds, "cpu": cpu or [1.0] * 5, "probe": probe or [100.0] * 5}


def test_figures_are_medians_of_calm_samples_and_ratios_within_rounds():
    own = _sampled([1e-3, 2e-3, 3e-3, 4e-3, 50e-3], cpu=[1, 1, 1, 1, 0.4])
    peer = _sampled([2e-3, 4e-3, 30e-3, 12e-3, 100e-3], probe=[100, 100, 50, 100, 100])
    both = figures([{"peers": {"bptt": own, "peer": peer}}])[0]
    assert both["bptt"] == pytest.approx((2.5, 1.0, 1.0, False))
    # Calm for both: the first, second and fourth round, with the ratios 2, 2 and 3.
    assert both["peer"] == pytest.approx((8.0, 2.0, 2.0, False))


@pytest.mark.parametrize(("probe", "good"), [(85.0, True), (84.9, False)])
def test_a_sample_is_disturbed_below_85_percent_of_the_best_probe(probe, good):
    peer = _sampled([1.0] * 2, probe=[100.0, probe], cpu=[1.0] * 2)
    assert calm(peer, 100.0) == [True, good]


def test_figures_use_and_mark_samples_of_which_fewer_than_three_are_calm():
    own = _sampled([1e-3, 2e-3, 3e-3, 4e-3, 5e-3], cpu=[1, 1, 0.5, 0.5, 0.5])
    calm = _sampled([2e-3] * 5)
    both = figures([{"peers": {"bptt": own, "peer": calm}}])[0]
    assert both["bptt"] == pytest.approx((3.0, 1.0, 1.0, True))
    assert both["peer"] == pytest.approx((2.0, 2.0, 2 / 3, False))


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


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--points", "tiny,huge"],
            "argument --points: has 'huge', expected 'all' or some of tiny,",
        ),
        (["--cells", ""], "argument --cells: has '', expected 'all' or some of rnn,lstm,gru"),
        (["--peers", "bptt"], "argument --peers: has 'bptt', expected 'all' or some of reference,"),
        (["--passes", "backward"], "argument --passes: has 'backward', expected"),
        (["--repeats", "0"], "argument --repeats: has '0', expected a whole number from 1 up"),
        (["--seconds", "nan"], "argument --seconds: has 'nan', expected a number of seconds"),
        (["--seconds", "-1"], "argument --seconds: has '-1', expected a number of seconds"),
        (["--json", "/nowhere/b.json"], "argument --json: has '/nowhere/b.json', expected a file"),
        (["--plot", "."], "argument --plot: has '.', expected a file in an existing folder"),
        (["--plot", "b.xyz"], "bench: plot has 'b.xyz', expected a name in ."),
        (["--points", "stream32", "--passes", "training"], "bench: points has stream32, expected"),
    ],
)
def test_wrong_arguments(arguments, message, monkeypatch, capsys):
    if arguments[-1] == "b.xyz":
        pytest.importorskip("matplotlib")
    monkeypatch.setattr(bench, "_measure_all", lambda *a: pytest.fail("work was begun"))
    try:
        code = main(["bench", *arguments])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_all_stands_for_every_name(monkeypatch):
    asked = []
    monkeypatch.setattr(bench, "_measure_all", lambda cases, *rest: asked.append(cases) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["bench", "--points", "all", "--cells", "gru", "--passes", "training"])
    assert [case.point for case in asked[0]] == [p for p in POINTS if "stream" not in p]


def test_missing_libraries_are_reported_and_left_out(monkeypatch, capsys):
    find = importlib.util.find_spec
    hidden = ("onnx", "jax", "matplotlib")
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n in hidden else find(n))
    few = ["--points", "stream32", "--cells", "rnn", "--peers", "reference,onnxruntime,jax"]
    assert main(["bench", *few, *FAST]) == 0
    out, err = capsys.readouterr()
    assert 'onnx not installed (pip install "bptt[onnx]")' in err
    assert 'jax is left out: jax not installed (pip install "bptt[jax]")' in err
    assert "reference" in out
    assert "jax" not in out
    assert main(["bench", *few, "--plot", "b.png"]) == 2
    assert 'pip install "bptt[plot]"' in capsys.readouterr().err


def test_an_interrupted_run_leaves_no_process(monkeypatch):
    started = []

    def interrupt(self, do, **request):
        started.append(self.process)
        assert self.process.poll() is None
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.Worker, "ask", interrupt)
    assert main(["bench", "--points", "tiny", "--peers", "reference"]) == 130
    assert [process.poll() is None for process in started] == [False]
