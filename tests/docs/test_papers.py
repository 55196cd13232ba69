# SPDX-License-Identifier: MIT
"""benchmarks/papers: quick versions learn, and the network of 1997 follows the paper."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from support.paths import ROOT


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Every quick version, by the one command that runs all, and its results by script."""
    folder = tmp_path_factory.mktemp("papers")
    command = [sys.executable, "-m", "benchmarks.papers", "--quick", "--results", str(folder)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    return {p.stem: json.loads(p.read_text())["runs"] for p in folder.glob("*.json")}


@pytest.mark.slow
def test_every_script_has_a_quick_version(quick):
    scripts = {p.stem for p in (ROOT / "benchmarks" / "papers").glob("*_[12]*.py")}
    assert quick.keys() == scripts
    assert all(run["seconds"] < 60 for runs in quick.values() for run in runs)


@pytest.mark.slow
def test_temporal_order_1997(quick):
    (run,) = quick["temporal_order_1997"]
    assert run["solved"]
    assert run["sequences"] > 2000  # the last 2000 were all right
    assert run["wrong_of_2560"] < 26


@pytest.mark.slow
def test_adding_1997(quick):
    (run,) = quick["adding_1997"]
    assert run["test_mse"] < 0.1 / 24  # 1/24 is the variance of (X1 + X2) / 4


@pytest.mark.slow
def test_reber_1997(quick):
    (run,) = quick["reber_1997"]
    assert run["solved"]
    assert run["strings_inner"] <= run["strings"] < 6000
    assert run["wrong_late"] == run["wrong_early"] == 0


@pytest.mark.slow
def test_temporal_order_2013(quick):
    runs = {run["settings"]["method"]: run for run in quick["temporal_order_2013"]}
    assert runs.keys() == {"clip", "omega"}
    for run in runs.values():
        assert run["solved"]
        assert run["errors"][0] < 0.02  # 0.75 by guessing


@pytest.mark.slow
def test_adding_2015(quick):
    (run,) = quick["adding_2015"]
    assert run["test_mse"] < 0.1 / 6
    assert run["curve"][-1] == [run["updates"], run["test_mse"]]


@pytest.mark.slow
def test_copy_2018(quick):
    (run,) = quick["copy_2018"]
    assert run["baseline"] == pytest.approx(10 * math.log(8) / 25, abs=1e-6)
    assert run["loss"] < 0.6 * run["baseline"]
    assert run["symbols_right"] > 0.4  # 0.125 by guessing


@pytest.mark.slow
def test_an_interrupted_start_goes_on_where_it_was(quick, tmp_path):
    """A start that has a result is not run again, and its result stays."""
    kept = quick["temporal_order_1997"]
    kept[0]["seconds"] = 12345.0
    (tmp_path / "temporal_order_1997.json").write_text(json.dumps({"runs": kept}))
    command = [sys.executable, "-m", "benchmarks.papers.temporal_order_1997", "--quick"]
    command += ["--seeds", "2", "--results", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=True)
    first, second = json.loads((tmp_path / "temporal_order_1997.json").read_text())["runs"]
    assert first == kept[0]
    assert (second["seed"], second["settings"]) == (1, first["settings"])
    assert second["sequences"] != first["sequences"]


def test_tables_are_those_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.papers import report

    page = (ROOT / "docs" / "papers.md").read_text("ascii")
    assert page.count("<!-- papers ") == 6
    assert report.update(page) == page, "python -m benchmarks.papers.report"


# --- the network of 1997, against the equations of the paper's appendix


def logistic(a):
    return 1 / (1 + np.exp(-a))


def gradient_of_1997(net, blocks, size, x, target):
    """Outputs and -dE/dw, by the recursions for ds/dw that the paper carries forward in time."""
    w, out = net.w, net.out
    cells, block = blocks * size, np.arange(blocks * size) // size
    y_cell, y_in, y_out = np.zeros(cells), np.zeros(blocks), np.zeros(blocks)
    s = np.zeros(cells)
    ds_in, ds_cell = np.zeros((2, cells, w.shape[1]))
    change, change_out, outputs = np.zeros_like(w), np.zeros_like(out), []
    for t in range(len(x)):
        source = np.concatenate([x[t], y_cell, y_in, y_out])
        net_in, net_out, net_cell = np.split(w @ source, [blocks, 2 * blocks])
        y_in, y_out, g = logistic(net_in), logistic(net_out), 4 * logistic(net_cell) - 2
        s = s + y_in[block] * g
        h = 2 * logistic(s) - 1
        y_cell = y_out[block] * h
        ds_in += (g * (y_in * (1 - y_in))[block])[:, None] * source
        ds_cell += (y_in[block] * (4 - g * g) / 4)[:, None] * source
        output = logistic(out[:, :-1] @ y_cell + out[:, -1])
        outputs.append(output)
        if len(target) == 1 and t < len(x) - 1:
            continue
        delta = output * (1 - output) * (target[t if len(target) > 1 else 0] - output)
        change_out += np.outer(delta, np.append(y_cell, 1))
        back = out[:, :-1].T @ delta
        e = y_out[block] * (1 - h * h) / 2 * back
        for j in range(blocks):
            own = block == j
            change[j] += e[own] @ ds_in[own]
            change[blocks + j] += y_out[j] * (1 - y_out[j]) * (h[own] @ back[own]) * source
        change[2 * blocks :] += e[:, None] * ds_cell
    return np.array(outputs), change, change_out


@pytest.mark.parametrize("every_step", [True, False])
@pytest.mark.parametrize(("blocks", "size"), [(3, 2), (4, 1), (1, 3)])
def test_learning_is_that_of_the_paper(network, blocks, size, every_step):
    rng = np.random.default_rng(0)
    net = network(5, blocks, size, 4, bound=1.0, lr=0.3, rng=rng)
    x = np.concatenate([rng.normal(size=(9, 5)), np.ones((9, 1))], axis=1)
    target = rng.random((9 if every_step else 1, 4))
    outputs, change, change_out = gradient_of_1997(net, blocks, size, x, target)
    w, out = net.w.copy(), net.out.copy()
    learnt = net.learn(x[:, None], target)
    np.testing.assert_allclose(learnt, outputs[-len(target) :], rtol=0, atol=1e-14)
    np.testing.assert_allclose(net.w - w, 0.3 * change, rtol=0, atol=1e-14)
    np.testing.assert_allclose(net.out - out, 0.3 * change_out, rtol=0, atol=1e-14)
    assert np.abs(change).max() > 0.01


@pytest.mark.parametrize(
    ("sizes", "gates_only", "weights"),
    [((8, 2, 2, 4), False, 156), ((2, 2, 2, 1), False, 93),
     ((7, 4, 1, 7), True, 264), ((7, 3, 2, 7), True, 276)],
)  # fmt: skip
def test_weights_are_as_many_as_in_the_paper(network, sizes, gates_only, weights):
    net = network(*sizes, bound=0.1, lr=0.5, rng=np.random.default_rng(0), gates_only=gates_only)
    assert net.weights == weights
    before = net.w.copy(), net.out.copy()
    x = np.random.default_rng(1).random((6, 1, sizes[0] + 1))
    x[..., -1] = 1
    net.learn(x, np.full((6, sizes[3]), 0.9))
    moved = sum(int((a != b).sum()) for a, b in zip(before, (net.w, net.out)))
    # All that are learnt but those from blocks to the first step's empty state, if any.
    assert moved <= weights
    assert moved > 0.9 * weights


@pytest.fixture
def network(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.papers.lstm1997 import Network

    return Network
