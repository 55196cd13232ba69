# SPDX-License-Identifier: MIT
"""`bptt bench` runs and says what it measured. No time is judged."""

import contextlib
import io
import json

import numpy as np
import pytest

from bptt.bench import command as bench
from bptt.bench.peers import PEERS
from bptt.bench.report import CALM, calm, compare, figures, rows
from bptt.bench.workloads import CELLS, POINTS
from bptt.cli import main

FAST = ["--seconds", "0", "--repeats", "2"]


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
    assert (report["threads"], report["dtype"]) == ([1], "float32")
    assert report["tolerance"] == {n: PEERS[n].tolerance for n in ("bptt", "reference")}
    probes = [p for r in report["results"] for peer in r["peers"].values() for p in peer["probe"]]
    assert report["fma_peak_gflops"] == {"1": max(probes)}
    assert {r["threads"] for r in report["results"]} == {1}
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
            assert 0 <= peer["relative_error"] <= report["tolerance"]["reference"]
            for key in ("seconds", "cpu", "probe"):
                assert len(peer[key]) == 2
                assert min(peer[key]) > 0
            assert peer["disturbed"] == calm(peer, max(probes)).count(False)


def test_table_shows_the_report(finished):
    report, lines = finished
    heading, *body = rows(report)
    assert heading == [
        *("cell", "size", "pass", "threads", "bptt ms", "% of peak", "reference ms", "ratio")
    ]
    assert len(body) == len(report["results"])
    assert [line.split() for line in lines[: 1 + len(body)]] == [
        " ".join(row).split() for row in (heading, *body)
    ]
    text = "\n".join(lines[1 + len(body) :])
    assert report["machine"]["cpu"] in text
    assert f"by threads: {report['fma_peak_gflops']['1']:.0f} on 1." in text
    assert "left out if at least 3 others remain" in text
    assert f"Of {len(body)} cases, " in text


def test_share_of_the_peak_is_that_of_the_best_probe():
    peers = {"bptt": _sampled([2e-3] * 3, probe=[50, 100, 90])}
    one = {"cell": "rnn", "point": "tiny", "pass": "training", "threads": 1, "flops": 1e8}
    two = {**one, "threads": 2, "peers": {"bptt": _sampled([2e-3] * 3, probe=[200] * 3)}}
    table = rows({"versions": {"bptt": ""}, "results": [{**one, "peers": peers}, two]})
    assert [line[3] for line in table] == ["threads", "1", "2"]
    # 1e8 operations in 2 ms are 50 GFLOP/s, of 100 on one core and of 200 on two.
    assert [line[5] for line in table] == ["% of peak", "50", "25"]


def test_pictures_have_a_panel_for_each_pass_and_number_of_threads(finished):
    pytest.importorskip("matplotlib")
    from bptt.bench.plot import draw

    report, _ = finished
    twice = [{**r, "threads": n} for r in report["results"] for n in (1, 2)]
    pictures = draw({**report, "results": twice})
    assert list(pictures) == list(CELLS)
    for cell, picture in pictures.items():
        assert [p.get_title() for p in picture.axes] == [
            f"{cell.upper()}, {mode}, {threads}"
            for mode in ("inference", "training")
            for threads in ("1 thread", "2 threads")
        ]
        for panel, points in zip(picture.axes, [3, 3, 2, 2]):
            assert panel.get_yscale() == "log"
            assert len(panel.patches) == points
        assert [text.get_text() for text in picture.legends[0].get_texts()] == ["bptt"]
    stats = figures(report["results"])
    top = pictures["rnn"].axes[0].patches[0]
    assert top.get_y() + top.get_height() == pytest.approx(stats[0]["reference"].ratio)


def test_a_picture_is_written_for_each_cell(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    few = ["--points", "tiny", "--cells", "rnn,gru", "--passes", "inference"]
    few += ["--peers", "reference", "--plot", str(tmp_path / "bench.svg")]
    assert main(["bench", *few, *FAST]) == 0
    assert sorted(f.name for f in tmp_path.iterdir()) == ["bench-gru.svg", "bench-rnn.svg"]
    for file in tmp_path.iterdir():
        assert "<svg" in file.read_text()


# --- figures --------------------------------------------------------------------------------------


def _sampled(seconds, cpu=None, probe=None):
    return {"seconds": seconds, "cpu": cpu or [1.0] * 5, "probe": probe or [100.0] * 5}


def test_figures_are_medians_of_calm_samples_and_ratios_within_rounds():
    own = _sampled([1e-3, 2e-3, 3e-3, 4e-3, 50e-3], cpu=[1, 1, 1, 1, 0.4])
    peer = _sampled([2e-3, 4e-3, 30e-3, 12e-3, 100e-3], probe=[100, 100, 50, 100, 100])
    both = figures([{"threads": 1, "peers": {"bptt": own, "peer": peer}}])[0]
    assert both["bptt"] == pytest.approx((2.5, 1.0, False, 1.0, False))
    # Calm for both: the first, second and fourth round, with the ratios 2, 2 and 3.
    assert both["peer"] == pytest.approx((8.0, 2.0, False, 2.0, False))


@pytest.mark.parametrize(("probe", "good"), [(85.0, True), (84.9, False)])
def test_a_sample_is_disturbed_below_85_percent_of_the_best_probe(probe, good):
    peer = _sampled([1.0] * 2, probe=[100.0, probe], cpu=[1.0] * 2)
    assert calm(peer, 100.0) == [True, good]


def test_figures_use_and_mark_samples_of_which_fewer_than_three_are_calm():
    own = _sampled([1e-3, 2e-3, 3e-3, 4e-3, 5e-3], cpu=[1, 1, 0.5, 0.5, 0.5])
    calm = _sampled([2e-3] * 5)
    both = figures([{"threads": 1, "peers": {"bptt": own, "peer": calm}}])[0]
    assert both["bptt"] == pytest.approx((3.0, 1.0, True, 1.0, True))
    assert both["peer"] == pytest.approx((2.0, 2.0, False, 2 / 3, True))


def test_a_ratio_is_uncertain_if_two_libraries_are_calm_in_different_rounds():
    own = _sampled([1e-3, 1e-3, 1e-3, 2e-3, 2e-3], cpu=[1, 1, 1, 0.5, 0.5])
    peer = _sampled([5e-3, 5e-3, 3e-3, 3e-3, 3e-3], cpu=[0.5, 0.5, 1, 1, 1])
    # All rounds count: ratios of 5, 5, 3, 1.5 and 1.5.
    assert compare(peer, own, 100.0) == pytest.approx((3.0, 3.0, False, 3.0, True))


def test_two_samples_prove_nothing():
    two = _sampled([1e-3] * 2, cpu=[1.0] * 2, probe=[100.0] * 2)
    assert compare(two, two, 100.0) == pytest.approx((1.0, 1.0, True, 1.0, True))


def test_bfloat16_is_compared_with_bfloat16():
    peers = {"bptt": 8, "torch": 12, "bptt_bf16": 4, "torch_bf16": 6}
    peers = {name: _sampled([1e-3 * ms] * 5) for name, ms in peers.items()}
    ratios = {n: f.ratio for n, f in figures([{"threads": 1, "peers": peers}])[0].items()}
    assert ratios == {"bptt": 1, "torch": 1.5, "bptt_bf16": 0.5, "torch_bf16": 1.5}
    # Where bptt has not been timed in bfloat16.
    del peers["bptt_bf16"]
    assert figures([{"threads": 1, "peers": peers}])[0]["torch_bf16"].ratio == 0.75


def test_packed_weights_are_compared_with_packed_weights():
    peers = {"bptt": 8, "bptt_prepared": 4, "onednn": 6, "onednn_packed": 6, "openvino": 5}
    peers = {name: _sampled([1e-3 * ms] * 5) for name, ms in peers.items()}
    ratios = {n: f.ratio for n, f in figures([{"threads": 1, "peers": peers}])[0].items()}
    assert ratios["onednn_packed"] == 1.5
    assert ratios["openvino"] == 1.25
    assert ratios["onednn"] == 0.75
    assert ratios["bptt_prepared"] == 0.5


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
        (["--threads", "0"], "argument --threads: has '0', expected some of 1"),
        (["--threads", "1,99999"], "argument --threads: has '1,99999', expected some of 1"),
        (["--threads", "1,"], "argument --threads: has '1,', expected some of 1"),
        (["--repeats", "0"], "argument --repeats: has '0', expected a whole number from 1 up"),
        (["--seconds", "nan"], "argument --seconds: has 'nan', expected a number of seconds"),
        (["--seconds", "-1"], "argument --seconds: has '-1', expected a number of seconds"),
        (["--json", "/nowhere/b.json"], "argument --json: has '/nowhere/b.json', expected a file"),
        (["--plot", "."], "argument --plot: has '.', expected a file in an existing folder"),
        (["--plot", "b.xyz"], "bench: --plot has 'b.xyz', expected a name in ."),
        (
            ["--points", "stream32", "--passes", "training"],
            "bench: --points has stream32, expected",
        ),
    ],
)
def test_wrong_arguments(arguments, message, monkeypatch, capsys):
    if arguments[-1] == "b.xyz":
        pytest.importorskip("matplotlib")
    monkeypatch.setattr(bench, "measure_all", lambda *a: pytest.fail("work was begun"))
    try:
        code = main(["bench", *arguments])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_all_stands_for_every_name(monkeypatch):
    asked = []
    monkeypatch.setattr(bench, "measure_all", lambda cases, *rest: asked.append(cases) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["bench", "--points", "all", "--cells", "gru", "--passes", "training"])
    assert [case.point for case in asked[0]] == [p for p in POINTS if "stream" not in p]
